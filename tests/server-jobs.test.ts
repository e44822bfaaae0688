import { createHmac } from "node:crypto";
import { createServer, type IncomingMessage } from "node:http";
import type { AddressInfo } from "node:net";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { JobObject } from "../src/server/job-answer.ts";
import { webhookSecret } from "../src/store/keys.ts";
import { type EaselServer, longRequest, pngHeader, startServer, until } from "./support/easel-server.ts";

let server: EaselServer;
beforeAll(async () => {
  server = await startServer({ EASEL_WEBHOOK_ALLOW_PRIVATE: "1", EASEL_DISCONNECT_GRACE_SECONDS: "3" });
});
afterAll(() => server[Symbol.asyncDispose]());

const small = { prompt: "a white cat", size: "32x32", steps: 2 };
const jobsRoute = "/v1/images/jobs";
const drawRoute = "/v1/images/generations";

const withHeaders = (headers: Record<string, string>): RequestInit => ({
  headers: { authorization: `Bearer ${server.key}`, "content-type": "application/json", ...headers },
});
const look = async (id: string) => (await (await server.fetch(`${jobsRoute}/${id}`)).json()) as JobObject;
async function cancel(id: string): Promise<JobObject> {
  const headers = { authorization: `Bearer ${server.key}` };
  return (await (await fetch(`${server.url}${jobsRoute}/${id}`, { method: "DELETE", headers })).json()) as JobObject;
}

async function order(body: object): Promise<JobObject> {
  const response = await server.fetch(jobsRoute, body);
  expect(response.status, await response.clone().text()).toBe(202);
  return (await response.json()) as JobObject;
}

async function ended(id: string): Promise<JobObject> {
  for (;;) {
    const job = await look(id);
    if (!["queued", "running"].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

async function untilRunning(id: string): Promise<JobObject> {
  for (;;) {
    const job = await look(id);
    if (job.progress !== null) return job;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

const post = (body: object, headers: Record<string, string> = {}, init: RequestInit = {}, route = drawRoute) =>
  server.fetch(route, body, { ...withHeaders(headers), method: "POST", body: JSON.stringify(body), ...init });
const requestsOf = async () => {
  const { data } = (await (await server.fetch("/v1/usage")).json()) as { data: { requests: number }[] };
  return data.reduce((sum, { requests }) => sum + requests, 0);
};

/** A receiver that answers with `statuses`, then with 200. */
async function receive(statuses: number[] = []) {
  const received: { headers: IncomingMessage["headers"]; body: string; atMs: number }[] = [];
  const receiver = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
    request.on("end", () => {
      received.push({ headers: request.headers, body, atMs: performance.now() });
      response.writeHead(statuses[received.length - 1] ?? 200, { location: "/elsewhere" }).end();
    });
  });
  await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
  return { received, url, [Symbol.dispose]: () => void receiver.close() };
}

describe("jobs", () => {
  test("a job is accepted at once, and later has the pictures that waiting would have given", async () => {
    const response = await server.fetch(jobsRoute, { ...small, seed: 7, n: 2, sead: 1 });
    expect(response.status).toBe(202);
    const job = (await response.json()) as JobObject;
    expect(response.headers.get("location")).toBe(`${jobsRoute}/${job.id}`);
    expect(job).toMatchObject({ object: "image.job", model: "flux-dev-tiny", result: null, error: null });
    const { status, result, started_at: started, finished_at: finished } = await ended(job.id);
    expect(status).toBe("succeeded");
    expect(finished).toBeGreaterThanOrEqual(started ?? Infinity);
    const waited = (await (await server.fetch(drawRoute, { ...small, seed: 7, n: 2 })).json()) as typeof result;
    expect(result?.data).toEqual(waited?.data);
    expect(result?.notices).toEqual(['Unknown parameters had no effect: "sead".']);
    expect(pngHeader(Buffer.from(result?.data[1]?.b64_json ?? "", "base64"))).toMatchObject({ width: 32 });
  });

  test("Prefer: respond-async makes a job of a generation", async () => {
    const response = await server.fetch(drawRoute, small, {
      ...withHeaders({ prefer: "respond-async, wait=10" }),
      method: "POST",
      body: JSON.stringify(small),
    });
    expect(response.status).toBe(202);
    expect(response.headers.get("preference-applied")).toBe("respond-async");
    expect((await ended(((await response.json()) as JobObject).id)).status).toBe("succeeded");
  });

  test("a job tells its place in the queue, its step and the time left; it is cancelled waiting or running", async () => {
    const [first, second] = [await order(longRequest), await order(small)];
    const running = await untilRunning(first.id);
    expect(running).toMatchObject({ status: "running", progress: { image_index: 0, steps: 150 }, ahead: null });
    expect(running.seconds_left).toBeGreaterThanOrEqual(0);
    expect(await look(second.id)).toMatchObject({ status: "queued", ahead: 1, started_at: null });
    expect(await cancel(second.id)).toMatchObject({ status: "cancelled", error: { code: "cancelled" } });
    expect(await cancel(first.id)).toMatchObject({ status: "cancelled" });
    expect(await cancel(first.id)).toMatchObject({ status: "cancelled" });
    const next = await order(small);
    expect((await ended(next.id)).status).toBe("succeeded");
    expect((await cancel(next.id)).status).toBe("succeeded");
  });

  test("its events are streamed to the end", async () => {
    const { id } = await order({ ...small, steps: 3 });
    const text = await (await server.fetch(`${jobsRoute}/${id}/events`)).text();
    const events = text
      .split("\n")
      .filter((line) => line.startsWith("data: "))
      .map((line) => JSON.parse(line.slice(6)) as { type: string; step?: number });
    expect(events.map(({ type }) => type).filter((type) => type !== "image.job.queued")).toEqual([
      "image.job.started",
      ...Array.from({ length: 3 }, () => "image.job.progress"),
      "image.job.succeeded",
    ]);
    expect(events.at(-1)).toMatchObject({ job: { id, status: "succeeded", result: null } });
    expect(await (await server.fetch(`${jobsRoute}/${id}/events`)).text()).toContain("image.job.succeeded");
  });

  test("a job belongs to its key: for others it is not there", async () => {
    const { id } = await order(small);
    const { key } = await server.keys.create("other");
    const other = { headers: { authorization: `Bearer ${key}` } };
    for (const [path, method] of [
      ["", "GET"],
      ["", "DELETE"],
      ["/events", "GET"],
    ] as const) {
      expect((await fetch(`${server.url}${jobsRoute}/${id}${path}`, { ...other, method })).status).toBe(404);
    }
    expect((await ended(id)).status).toBe("succeeded");
    expect((await server.fetch(`${jobsRoute}/job_none`)).status).toBe(404);
  });

  test("a key that orders little is not kept waiting by one that orders much", async () => {
    const { key } = await server.keys.create("other");
    const running = await order(longRequest);
    const much = [await order(small), await order(small), await order(small)];
    const headers = { authorization: `Bearer ${key}` };
    const little = (await (await post(small, headers, {}, jobsRoute)).json()) as JobObject;
    expect(little.ahead).toBe(1);
    expect((await Promise.all(much.map(({ id }) => look(id)))).map(({ ahead }) => ahead)).toEqual([2, 3, 4]);
    await cancel(running.id);
    for (const { id } of much) expect((await ended(id)).status).toBe("succeeded");
  });

  test("a job that cannot be drawn says why", async () => {
    expect((await server.fetch(jobsRoute, { ...small, model: "none" })).status).toBe(404);
    for (const body of [{ stream: true }, { partial_images: 1 }, { webhook_url: "" }, { prompt: "" }, { n: 0 }]) {
      expect((await server.fetch(jobsRoute, { ...small, ...body })).status, JSON.stringify(body)).toBe(400);
    }
    const { id } = await order({ ...small, true_cfg_scale: 4 });
    expect(["failed", "succeeded"]).toContain((await ended(id)).status);
  });
});

describe("the same request twice", () => {
  test("with an explicit seed and in hand, is drawn and charged once", async () => {
    const before = await requestsOf();
    const body = { ...small, seed: 11, steps: 20 };
    const answers = await Promise.all(Array.from({ length: 5 }, async () => (await post(body)).json()));
    const data = answers.map((answer) => (answer as { data: unknown }).data);
    for (const one of data) expect(one).toEqual(data[0]);
    expect(await requestsOf()).toBe(before + 1);
    const seedless = await Promise.all([1, 2].map(async () => (await post(small)).json()));
    expect(seedless[0]).not.toEqual(seedless[1]);
    expect(await requestsOf()).toBe(before + 3);
  });

  test("one of those who share it may leave; the others get their picture", async () => {
    const body = { prompt: "a white cat", size: "256x256", steps: 40, seed: 12 };
    const leaving = new AbortController();
    const [left, stayed] = [post(body, {}, { signal: leaving.signal }), post(body)];
    await until(() => server.jobs.inHand > 0);
    await new Promise((resolve) => setTimeout(resolve, 200));
    leaving.abort();
    await expect(left).rejects.toThrow();
    expect(await (await stayed).json()).toMatchObject({ data: [{ seed: 12 }] });
  });

  test("with the same Idempotency-Key, a client that lost its connection finds its picture", async () => {
    const before = await requestsOf();
    const body = { prompt: "a white cat", size: "256x256", steps: 40 };
    const headers = { "idempotency-key": "retry-1" };
    const leaving = new AbortController();
    const lost = post(body, headers, { signal: leaving.signal });
    await until(() => server.jobs.inHand > 0);
    leaving.abort();
    await expect(lost).rejects.toThrow();
    const [first, second] = [await (await post(body, headers)).json(), await (await post(body, headers)).json()];
    expect((first as { data: unknown }).data).toEqual((second as { data: unknown }).data);
    expect(await requestsOf()).toBe(before + 1);
    const other = await post({ ...body, prompt: "a red boat" }, headers);
    expect(other.status).toBe(400);
    expect(await other.json()).toMatchObject({ error: { param: "Idempotency-Key" } });
  });

  test("nobody comes back within the grace, and the work stops", async () => {
    const leaving = new AbortController();
    const lost = post(longRequest, { "idempotency-key": "gone" }, { signal: leaving.signal });
    await until(() => server.jobs.inHand > 0);
    leaving.abort();
    await expect(lost).rejects.toThrow();
    await new Promise((resolve) => setTimeout(resolve, 1000));
    expect(server.jobs.inHand).toBe(1);
    await until(() => server.jobs.inHand === 0);
  });

  test("a job ordered twice with the same Idempotency-Key is one job", async () => {
    const headers = { "idempotency-key": "job-1" };
    const ids = await Promise.all(
      [1, 2, 3].map(async () => ((await (await post(small, headers, {}, jobsRoute)).json()) as JobObject).id),
    );
    expect(new Set(ids).size).toBe(1);
    await ended(ids[0] ?? "");
    expect(((await (await post(small, headers, {}, jobsRoute)).json()) as JobObject).id).toBe(ids[0]);
    expect((await post({ ...small, n: 2 }, headers, {}, jobsRoute)).status).toBe(400);
  });
});

describe("webhooks", () => {
  test("tell how a job ended, signed so that its owner can check who sent it and when", async () => {
    using hook = await receive();
    const { id } = await order({ ...small, webhook_url: hook.url });
    await until(() => hook.received.length > 0);
    const { headers, body } = hook.received[0]!;
    expect(JSON.parse(body)).toMatchObject({
      type: "image.job.succeeded",
      data: { id, status: "succeeded", model: "flux-dev-tiny", error: null },
    });
    expect(body).not.toContain(small.prompt);
    const signed = `${headers["webhook-id"]}.${headers["webhook-timestamp"]}.${body}`;
    const secret = Buffer.from(webhookSecret(server.key).replace("whsec_", ""), "base64");
    const signature = createHmac("sha256", secret).update(signed).digest("base64");
    expect(headers["webhook-signature"]).toBe(`v1,${signature}`);
    expect(Math.abs(Number(headers["webhook-timestamp"]) - Date.now() / 1000)).toBeLessThan(60);
    expect(headers["webhook-id"]).toBe(id);
  });

  test("are tried again with growing pauses, without following redirects, and then given up", async () => {
    using hook = await receive([500, 302]);
    await order({ ...small, webhook_url: hook.url });
    await until(() => hook.received.length === 3);
    const [first, second, third] = hook.received.map(({ atMs }) => atMs) as [number, number, number];
    expect(second - first).toBeGreaterThanOrEqual(9);
    expect(third - second).toBeGreaterThanOrEqual(19);
    expect(new Set(hook.received.map(({ headers }) => headers["webhook-id"])).size).toBe(1);

    using broken = await receive([500, 500, 500, 500, 500]);
    await order({ ...small, webhook_url: broken.url });
    await until(() => server.log.join("").includes("given up after 4 tries"));
    expect(broken.received).toHaveLength(4);
  });

  test.each([
    "http://127.0.0.1/",
    "http://localhost:8080/",
    "http://2130706433/",
    "http://0x7f.1/",
    "http://[::1]/",
    "http://[::ffff:10.0.0.1]/",
    "http://169.254.169.254/latest/meta-data",
    "http://user:secret@93.184.216.34/",
    "file:///etc/passwd",
    "ftp://93.184.216.34/",
    "not an address",
    7,
  ])("to %s are refused", async (url) => {
    await using strict = await startStrict();
    const response = await strict.fetch(jobsRoute, { ...small, webhook_url: url });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { code: "invalid_request", param: "webhook_url" } });
  });

  let strict: EaselServer | undefined;
  /** One server for all refusals. */
  async function startStrict() {
    strict ??= await startServer();
    const { fetch } = strict;
    return { fetch, async [Symbol.asyncDispose]() {} };
  }
  afterAll(async () => await strict?.[Symbol.asyncDispose]());
});
