import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OpenAI, PermissionDeniedError, RateLimitError } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import type { KeyRights } from "../src/store/keys.ts";
import {
  type EaselServer,
  longRequest,
  otherTinyModel,
  startServer,
  tinyModel,
  until,
} from "./support/easel-server.ts";

let server: EaselServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const small = { prompt: "a white cat", size: "32x32", steps: 2 };
/** Its cost, in pixels × steps. */
const smallCost = 32 * 32 * 2;
const route = "/v1/images/generations";

/** A key with these rights, and `fetch` with it. */
async function client(rights: Partial<KeyRights>) {
  const { id, key } = await server.keys.create("client", rights);
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  return {
    id,
    key,
    get: (path: string) => fetch(server.url + path, { headers }),
    post: (body: object, init: RequestInit = {}) =>
      fetch(server.url + route, { method: "POST", headers, body: JSON.stringify(body), ...init }),
    openai: () => new OpenAI({ apiKey: key, baseURL: `${server.url}/v1`, maxRetries: 0 }),
  };
}
const errorOf = async (response: Response) => ((await response.json()) as { error: Record<string, unknown> }).error;

describe("what a key may do", () => {
  test("a key without the scope is a 403 that names it", async () => {
    const lister = await client({ scopes: ["models"] });
    expect((await lister.get("/v1/models")).status).toBe(200);
    const refused = await lister.post(small);
    expect(refused.status).toBe(403);
    expect(await errorOf(refused)).toMatchObject({
      code: "forbidden",
      type: "permission_error",
      message: expect.stringContaining('"images"'),
    });
    for (const path of ["/v1/usage", "/metrics"]) expect((await lister.get(path)).status).toBe(403);
  });

  test("a key for some models sees and uses only these", async () => {
    const limited = await client({ models: [otherTinyModel] });
    for (const path of ["/v1/models", "/model/info"]) {
      const { data } = (await (await limited.get(path)).json()) as { data: { id?: string; model_name?: string }[] };
      expect(data.map(({ id, model_name: name }) => id ?? name)).toEqual([otherTinyModel]);
    }
    expect((await limited.get(`/v1/models/${otherTinyModel}`)).status).toBe(200);
    for (const model of [tinyModel, "no-such-model"]) {
      expect((await limited.get(`/v1/models/${model}`)).status).toBe(403);
      expect(await errorOf(await limited.post({ ...small, model }))).toMatchObject({
        code: "forbidden",
        param: "model",
      });
    }
    expect((await limited.post({ ...small, model: otherTinyModel })).status).toBe(200);
    await expect(limited.openai().images.generate({ prompt: "a cat" })).rejects.toBeInstanceOf(PermissionDeniedError);
  });

  test.each(["expired", "revoked"])("a key that is %s is a 401 that says so, from then on", async (fault) => {
    const expiresAt = fault === "expired" ? new Date(Date.now() + 300) : undefined;
    const { id, get } = await client({ expiresAt });
    expect((await get("/v1/models")).status).toBe(200);
    if (fault === "revoked") await server.keys.revoke(id);
    else await new Promise((resolve) => setTimeout(resolve, 310));
    const response = await get("/v1/models");
    expect(response.status).toBe(401);
    expect(await errorOf(response)).toMatchObject({ code: "unauthorized", message: expect.stringContaining(fault) });
  });
});

describe("how much", () => {
  test("more requests a minute than allowed are a 429 that says when to come back; looking costs nothing", async () => {
    const { get, post } = await client({ requestsPerMinute: 2 });
    for (const remaining of ["1", "0"]) {
      const response = await post(small);
      expect(response.status).toBe(200);
      expect(response.headers.get("x-ratelimit-limit-requests")).toBe("2");
      expect(response.headers.get("x-ratelimit-remaining-requests")).toBe(remaining);
    }
    const refused = await post(small);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(20);
    expect(refused.headers.get("x-ratelimit-reset-requests")).toMatch(/^\d+s$/);
    expect(await errorOf(refused)).toMatchObject({ code: "rate_limit_exceeded", type: "rate_limit_error" });
    expect((await get("/v1/models")).status).toBe(200);
  });

  test("more pictures at once than allowed are a 429, until one of them ends", async () => {
    const { post } = await client({ concurrentPictures: 10 });
    const leaving = new AbortController();
    const work = post(longRequest, { signal: leaving.signal }).catch(() => {});
    await until(() => server.jobs.inHand > 0);
    const refused = await post(small);
    expect(refused.status).toBe(429);
    expect(Number(refused.headers.get("retry-after"))).toBeGreaterThan(0);
    leaving.abort();
    await work;
    await until(() => server.jobs.inHand === 0);
    expect((await post(small)).status).toBe(200);
    expect(await errorOf(await post({ ...small, n: 10, size: "16x16" }))).toBeUndefined();
  });

  test("a budget that is used up is a 429 that OpenAI's clients do not retry", async () => {
    const { post, openai } = await client({ budget: { pixelSteps: 2 * smallCost, period: "day" } });
    expect((await post({ ...small, n: 2 })).status).toBe(200);
    const refused = await post(small);
    expect(refused.status).toBe(429);
    expect(refused.headers.get("x-should-retry")).toBe("false");
    expect(await errorOf(refused)).toMatchObject({ code: "insufficient_quota", type: "insufficient_quota" });
    await expect(openai().images.generate({ prompt: "a cat" })).rejects.toBeInstanceOf(RateLimitError);
  });

  test("of many requests at once, exactly those are drawn that the budget pays for", async () => {
    const { post } = await client({ budget: { pixelSteps: 5 * smallCost, period: "month" } });
    const statuses = await Promise.all(Array.from({ length: 12 }, async () => (await post(small)).status));
    expect(statuses.filter((status) => status === 200)).toHaveLength(5);
    expect(statuses.filter((status) => status === 429)).toHaveLength(7);
  });

  test("work that was stopped costs what was done of it, and failures nothing", async () => {
    const { get, post } = await client({ budget: { pixelSteps: 1e9, period: "day" } });
    const leaving = new AbortController();
    const work = post(longRequest, { signal: leaving.signal }).catch(() => {});
    const budget = async () =>
      ((await (await get("/v1/usage")).json()) as { budget: { used: number; remaining: number } }).budget;
    await until(() => server.jobs.inHand > 0);
    const reserved = (256 * 256 * 150 * 10) / 1e6;
    expect((await budget()).used).toBe(reserved);
    leaving.abort();
    await work;
    await until(() => server.jobs.inHand === 0);
    const { used, remaining } = await budget();
    expect(used).toBeLessThan(reserved);
    expect(used + remaining).toBeCloseTo(1000);
    expect((await post({ ...small, model: "no-such-model" })).status).toBe(404);
    expect((await budget()).used).toBe(used);
  });

  test("usage is told by day and model, as JSON and CSV; everybody's only to admins", async () => {
    const { id, get, post } = await client({ scopes: ["images", "usage"] });
    await post({ ...small, n: 2 });
    const row = { key_id: id, model: tinyModel, requests: 1, pictures: 2, megapixel_steps: (2 * smallCost) / 1e6 };
    const own = (await (await get("/v1/usage")).json()) as { data: object[]; budget: unknown };
    expect(own.data).toEqual([{ ...row, key_name: "client", day: new Date().toISOString().slice(0, 10) }]);
    expect(own.budget).toBeNull();
    const csv = await get("/v1/usage?format=csv");
    expect(csv.headers.get("content-type")).toContain("text/csv");
    expect(await csv.text()).toContain(`,${id},client,${tinyModel},1,2,`);
    expect((await get("/v1/usage?from=yesterday")).status).toBe(400);
    expect((await get("/v1/usage?key=all")).status).toBe(403);
    const all = (await (await server.fetch("/v1/usage?key=all")).json()) as { data: object[] };
    expect(all.data).toContainEqual(expect.objectContaining(row));
  });
});

describe("without a key", () => {
  test("programs on this machine draw where the operator allows it by name; proxies and web pages do not", async () => {
    await using open = await startServer({ EASEL_OPEN_LOOPBACK: "1" });
    const draw = (headers: Record<string, string>) =>
      open.app.inject({ method: "POST", url: route, headers: { host: "127.0.0.1", ...headers }, payload: small });
    expect((await draw({})).statusCode).toBe(200);
    expect((await draw({ origin: "http://localhost:3000" })).statusCode).toBe(200);
    for (const headers of [
      { origin: "https://evil.example" },
      { origin: "null" },
      { host: "rebound.example" },
      { "x-forwarded-for": "203.0.113.7" },
      { authorization: "Bearer wrong" },
    ]) {
      expect((await draw(headers)).statusCode, JSON.stringify(headers)).toBe(401);
    }
    const elsewhere = { method: "POST", url: route, headers: { host: "127.0.0.1" }, payload: small } as const;
    expect((await open.app.inject({ ...elsewhere, remoteAddress: "10.0.0.1" })).statusCode).toBe(401);
    expect((await open.app.inject({ url: "/metrics", headers: { host: "127.0.0.1" } })).statusCode).toBe(403);
    expect((await server.app.inject(elsewhere)).statusCode).toBe(401);
  });

  test("the readiness check tells whether the server takes work", async () => {
    await using stopping = await startServer();
    expect((await fetch(`${stopping.url}/readyz`)).status).toBe(200);
    await stopping.jobs.drain(0);
    expect((await fetch(`${stopping.url}/readyz`)).status).toBe(503);
    expect((await fetch(`${stopping.url}/healthz`)).status).toBe(200);
    const refused = await stopping.fetch(route, small);
    expect([refused.status, refused.headers.has("retry-after")]).toEqual([503, true]);
    expect(await errorOf(refused)).toMatchObject({ code: "shutting_down" });
  });
});

describe("moderation", () => {
  test("a prompt with a word of the list is a 400 with its code, and nothing is charged", async () => {
    const folder = mkdtempSync(join(tmpdir(), "easel-words-"));
    writeFileSync(join(folder, "words.txt"), "# not here\nforbidden word\n");
    await using strict = await startServer({ EASEL_MODERATION_WORDS: join(folder, "words.txt") });
    rmSync(folder, { recursive: true });
    const refused = await strict.fetch(route, { ...small, prompt: "a FORBIDDEN\n word!" });
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({ code: "content_policy_violation", param: "prompt" });
    expect((await strict.fetch(route, small)).status).toBe(200);
    const { data } = (await (await strict.fetch("/v1/usage")).json()) as { data: object[] };
    expect(data).toMatchObject([{ requests: 1 }]);
  });

  test("an OpenAI-compatible endpoint decides; without its verdict nothing is drawn", async () => {
    let answer: object | undefined = { results: [{ flagged: false, categories: {} }] };
    const asked: string[] = [];
    const endpoint = createServer((request, response) => {
      request.setEncoding("utf8").on("data", (chunk: string) => asked.push(chunk));
      request.on("end", () => response.writeHead(answer ? 200 : 500).end(JSON.stringify(answer ?? {})));
    });
    await new Promise<void>((listening) => endpoint.listen(0, "127.0.0.1", listening));
    const url = `http://127.0.0.1:${(endpoint.address() as AddressInfo).port}/v1/moderations`;
    await using strict = await startServer({ EASEL_MODERATION_URL: url, EASEL_MODERATION_MODEL: "judge" });
    expect((await strict.fetch(route, small)).status).toBe(200);
    expect(JSON.parse(asked[0] ?? "")).toEqual({ input: small.prompt, model: "judge" });

    answer = { results: [{ flagged: true, categories: { violence: true, other: false } }] };
    const refused = await strict.fetch(route, small);
    expect(refused.status).toBe(400);
    expect(await errorOf(refused)).toMatchObject({
      code: "content_policy_violation",
      message: expect.stringContaining("violence"),
    });

    answer = undefined;
    const unknown = await strict.fetch(route, small);
    expect(unknown.status).toBe(503);
    expect(await errorOf(unknown)).toMatchObject({ code: "moderation_unavailable" });
    endpoint.close();
  });
});

test("metrics count answers, generations, waits, steps and cache hits, in Prometheus' text format", async () => {
  await server.fetch(route, small);
  await server.fetch(route, small);
  const response = await server.fetch("/metrics");
  expect(response.headers.get("content-type")).toContain("text/plain; version=0.0.4");
  const lines = (await response.text()).trimEnd().split("\n");
  const sample = /^[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [\d.e+-]+$/;
  for (const line of lines) expect(line).toMatch(line.startsWith("#") ? /^# (HELP|TYPE) \w+ .+$/ : sample);
  const value = (series: string) =>
    Number(
      lines
        .find((line) => line.startsWith(`${series} `))
        ?.split(" ")
        .at(-1),
    );
  expect(value(`easel_http_requests_total{method="POST",route="${route}",status="200"}`)).toBeGreaterThan(0);
  expect(value(`easel_generations_total{model="${tinyModel}",outcome="succeeded"}`)).toBeGreaterThan(0);
  expect(value('easel_queue_wait_seconds_bucket{le="+Inf"}')).toBe(value("easel_queue_wait_seconds_count"));
  expect(value("easel_step_seconds_count")).toBeGreaterThan(0);
  expect(value(`easel_model_cache_misses_total{model="${tinyModel}"}`)).toBe(1);
  expect(value(`easel_model_cache_hits_total{model="${tinyModel}"}`)).toBeGreaterThan(0);
  expect(value("easel_queue_depth")).toBe(0);
  expect(value("process_resident_memory_bytes")).toBeGreaterThan(1e6);
  expect(value("easel_engine_resident_memory_bytes")).toBeGreaterThan(1e6);
});
