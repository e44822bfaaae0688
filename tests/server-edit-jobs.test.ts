/** Jobs that start from a picture: ordered with the form of an edit or a variation, and `Prefer: respond-async`. */
import { existsSync, readdirSync, statSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import { afterAll, beforeAll, expect, test } from "vitest";
import type { JobObject } from "../src/server/job-answer.ts";
import { type EaselServer, longRequest, startServer, until } from "./support/easel-server.ts";
import { type Field, form, leftHalfTransparent, noise } from "./support/forms.ts";

/** Room for two jobs with a picture of 64 × 48, or for one with a mask too. */
const roomBytes = 64 * 48 * 3 * 2;

let server: EaselServer;
let photo: Buffer;
let mask: Buffer;
beforeAll(async () => {
  server = await startServer({
    EASEL_WEBHOOK_ALLOW_PRIVATE: "1",
    EASEL_JOB_INPUT_LIMIT_BYTES: String(roomBytes),
  });
  photo = await noise(64, 48).png().toBuffer();
  mask = await leftHalfTransparent(noise(64, 48), 64, 48);
});
afterAll(() => server[Symbol.asyncDispose]());

const small = { prompt: "a red hat", steps: "2", seed: "7" };

async function post(route: string, fields: Record<string, Field>, headers: Record<string, string> = {}) {
  return await fetch(`${server.url}/v1/images/${route}`, {
    method: "POST",
    body: form(fields),
    headers: { authorization: `Bearer ${server.key}`, ...headers },
  });
}

const order = (fields: Record<string, Field> = {}, headers: Record<string, string> = {}, route = "edits") =>
  post(route, { image: photo, ...small, ...fields }, { prefer: "respond-async", ...headers });

const look = async (id: string) => (await (await server.fetch(`/v1/images/jobs/${id}`)).json()) as JobObject;

async function ordered(...args: Parameters<typeof order>): Promise<JobObject> {
  const response = await order(...args);
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

const cancel = (id: string) =>
  fetch(`${server.url}/v1/images/jobs/${id}`, {
    method: "DELETE",
    headers: { authorization: `Bearer ${server.key}` },
  });

/** Occupies the engine until it is cancelled. */
async function occupy(): Promise<() => Promise<void>> {
  const job = (await (await server.fetch("/v1/images/jobs", longRequest)).json()) as JobObject;
  return async () => void (await cancel(job.id));
}

const inputsFolder = () => join(server.home, "job-inputs");
const keptInputs = () => (existsSync(inputsFolder()) ? readdirSync(inputsFolder()) : []);

test("an edit as a job is accepted at once, and has the pictures that waiting would have given", async () => {
  const response = await order({ mask });
  expect(response.status).toBe(202);
  expect(response.headers.get("preference-applied")).toBe("respond-async");
  const { id, status } = (await response.json()) as JobObject;
  expect(response.headers.get("location")).toBe(`/v1/images/jobs/${id}`);
  expect(["queued", "running"]).toContain(status);
  const waited = (await (await post("edits", { image: photo, mask, ...small })).json()) as JobObject["result"];
  const job = await ended(id);
  expect(job).toMatchObject({ status: "succeeded", result: { data: [{ size: "64x48", seed: 7 }] } });
  expect(job.result?.data).toEqual(waited?.data);
  expect(job.result?.usage).toEqual(waited?.usage);
  expect(job.result?.usage?.input_tokens_details.image_tokens).toBe(12);
});

test("so does a variation, and it says that its picture was fitted", async () => {
  const odd = await noise(70, 50).png().toBuffer();
  const { id } = await ordered({ image: odd }, {}, "variations");
  expect(await ended(id)).toMatchObject({
    status: "succeeded",
    result: { size: "64x48", notices: ["The given picture, 70x50, was fitted to 64x48."] },
  });
});

test("its picture and mask are kept, for their owner alone, until it ends or is cancelled", async () => {
  await until(() => keptInputs().length === 0);
  const free = await occupy();
  const { id } = await ordered({ image: mask });
  const folder = join(inputsFolder(), id);
  expect(readdirSync(folder).toSorted()).toEqual(["image", "mask"]);
  const files = [folder, join(folder, "image"), join(folder, "mask")].map((path) => statSync(path));
  expect(files.map(({ mode }) => mode & 0o777)).toEqual([0o700, 0o600, 0o600]);
  expect(files.slice(1).map(({ size }) => size)).toEqual([64 * 48 * 3, 64 * 48]);
  expect(await (await cancel(id)).json()).toMatchObject({ status: "cancelled" });
  expect(keptInputs()).toEqual([]);

  const next = await ordered();
  expect(keptInputs()).toEqual([next.id]);
  await free();
  expect((await ended(next.id)).status).toBe("succeeded");
  await until(() => keptInputs().length === 0);
});

/** How many requests the key has been charged for. */
const requestsOf = async () => {
  const { data } = (await (await server.fetch("/v1/usage")).json()) as { data: { requests: number }[] };
  return data.reduce((sum, { requests }) => sum + requests, 0);
};

test("over the limit of what is kept it is a 503 that says when to come back, and costs nothing", async () => {
  const free = await occupy();
  const accepted = [await ordered({ seed: "1" }), await ordered({ seed: "2" })];
  const before = await requestsOf();
  const refused = await order({ seed: "3" });
  expect(refused.status).toBe(503);
  expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await refused.json()).toMatchObject({ error: { code: "queue_full" } });
  expect(await requestsOf()).toBe(before);
  // Who waits keeps nothing.
  const waiting = post("edits", { image: photo, ...small, seed: "3" });
  await cancel(accepted[0]!.id);
  const third = await ordered({ seed: "4" });
  await free();
  expect((await waiting).status).toBe(200);
  for (const { id } of [accepted[1]!, third]) expect((await ended(id)).status).toBe("succeeded");
});

test("what could never be kept is a 400", async () => {
  const large = await noise(128, 128).png().toBuffer();
  const response = await order({ image: large });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { code: "invalid_request", param: "image" } });
});

test("a picture that cannot be kept is a clear failure, and nothing is charged", async () => {
  await using broken = await startServer();
  // A file where the folder should be: no user is exempt from that, as root is from permissions.
  writeFileSync(join(broken.home, "job-inputs"), "");
  const response = await fetch(`${broken.url}/v1/images/edits`, {
    method: "POST",
    body: form({ image: photo, ...small }),
    headers: { authorization: `Bearer ${broken.key}`, prefer: "respond-async" },
  });
  expect(response.status).toBe(500);
  expect(await response.json()).toMatchObject({ error: { code: "io_failed" } });
  const { data } = (await (await broken.fetch("/v1/usage")).json()) as { data: { requests: number }[] };
  expect(data.every(({ requests }) => requests === 0)).toBe(true);
});

test("ordered twice with the same Idempotency-Key it is one job; another picture under that key is refused", async () => {
  const headers = { "idempotency-key": "edit-1" };
  const [first, second] = await Promise.all([ordered({}, headers), ordered({}, headers)]);
  expect(second.id).toBe(first.id);
  await ended(first.id);
  expect((await ordered({}, headers)).id).toBe(first.id);
  const other = await order({ image: await noise(64, 48).png().toBuffer() }, headers);
  expect(other.status).toBe(400);
  expect(await other.json()).toMatchObject({ error: { param: "Idempotency-Key" } });
});

test("a webhook is told of its end, and its events are streamed", async () => {
  const told = Promise.withResolvers<string>();
  const receiver = createServer((request, response) => {
    let body = "";
    request.setEncoding("utf8").on("data", (chunk: string) => (body += chunk));
    request.on("end", () => (response.end(), told.resolve(body)));
  });
  await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
  const url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/hook`;
  const { id } = await ordered({ webhook_url: url });
  expect(JSON.parse(await told.promise)).toMatchObject({ type: "image.job.succeeded", data: { id } });
  const events = await (await server.fetch(`/v1/images/jobs/${id}/events`)).text();
  expect(events).toContain("event: image.job.succeeded");
  receiver.close();
});

test("a webhook for who waits has no effect, and the answer says so", async () => {
  const answer = await (await post("edits", { image: photo, ...small, webhook_url: "http://127.0.0.1/" })).json();
  expect(answer).toMatchObject({ notices: [expect.stringContaining("webhook_url had no effect")] });
});

test("its cost is reserved when it is accepted and given back as far as it was not drawn", async () => {
  const { key } = await server.keys.create("budgeted", {
    budget: { pixelSteps: 64 * 48 * 10, period: "day" },
  });
  const headers = { authorization: `Bearer ${key}` };
  const free = await occupy();
  // Strength 1 takes every step.
  const first = await ordered({ strength: "1", steps: "8" }, headers);
  const second = await order({ strength: "1", steps: "8", seed: "8" }, headers);
  expect(second.status).toBe(429);
  expect(await second.json()).toMatchObject({ error: { code: "insufficient_quota" } });
  await fetch(`${server.url}/v1/images/jobs/${first.id}`, { method: "DELETE", headers });
  const third = await order({ strength: "1", steps: "8", seed: "8" }, headers);
  expect(third.status).toBe(202);
  await free();
});

test.each([
  ["stream", { stream: "true" }],
  ["partial_images", { partial_images: "1" }],
  ["image", { image: "a cat" }],
  ["mask", { mask: "PHOTO" }],
  ["webhook_url", { webhook_url: "file:///etc/passwd" }],
])("a bad %s is a 400 that names it, and nothing is kept", async (param, fields) => {
  await until(() => keptInputs().length === 0);
  const filled = Object.fromEntries(
    Object.entries(fields).map(([name, value]) => [name, value === "PHOTO" ? photo : value]),
  );
  const response = await order(filled as Record<string, Field>);
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({ error: { code: "invalid_request", param } });
  expect(keptInputs()).toEqual([]);
});

test("a form sent to /v1/images/jobs is told where to go", async () => {
  const response = await post("jobs", { image: photo, ...small });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    error: { message: expect.stringContaining("/v1/images/edits") },
  });
});
