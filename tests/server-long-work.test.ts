import { afterAll, beforeAll, expect, test } from "vitest";
import { type EaselServer, longRequest, startServer, until } from "./support/easel-server.ts";

let server: EaselServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const small = { prompt: "a white cat", size: "32x32", steps: 2 };
const route = "/v1/images/generations";

/** Gives a request time to begin its work. */
const aMoment = () => new Promise((resolve) => setTimeout(resolve, 500));

const data = async (response: Response) => ((await response.json()) as { data: unknown[] }).data;

async function draw(): Promise<void> {
  const response = await server.fetch(route, small);
  expect(response.status, await response.text()).toBe(200);
}

test("a client that leaves stops its picture within a moment, and the engine process lives on", async () => {
  await draw();
  const processId = server.engine.processId;
  const leaving = new AbortController();
  const left = server.fetch(route, longRequest, { signal: leaving.signal });
  await aMoment();
  leaving.abort();
  await expect(left).rejects.toThrow();
  const startedMs = performance.now();
  await draw();
  expect(performance.now() - startedMs).toBeLessThan(2500);
  expect(server.engine.processId).toBe(processId);
});

test("the model list answers within 20 ms while a picture is drawn", async () => {
  const leaving = new AbortController();
  const work = server.fetch(route, longRequest, { signal: leaving.signal }).catch(() => {});
  await aMoment();
  const durations: number[] = [];
  for (let i = 0; i < 30; i++) {
    const startedMs = performance.now();
    await (await server.fetch("/v1/models")).json();
    durations.push(performance.now() - startedMs);
  }
  leaving.abort();
  await work;
  // The median: other programs on the machine may take their time now and then.
  expect(durations.sort((a, b) => a - b)[15]).toBeLessThan(20);
});

test("an engine process that is killed costs time only: a new one draws the same picture", async () => {
  const request = { prompt: "a white cat", size: "256x256", steps: 60, seed: 7 };
  const undisturbed = await data(await server.fetch(route, request));
  const killed = server.engine.processId;
  const work = server.fetch(route, request);
  await aMoment();
  process.kill(killed ?? 0, "SIGKILL");
  const response = await work;
  expect(response.status).toBe(200);
  expect(await data(response)).toEqual(undisturbed);
  expect(server.engine.processId).not.toBe(killed);
});

test("a picture that costs the engine process twice fails clearly, and the next one is drawn by a new one", async () => {
  const work = server.fetch(route, longRequest);
  for (let time = 0; time < 2; time++) {
    await aMoment();
    const killed = server.engine.processId;
    process.kill(killed ?? 0, "SIGKILL");
    await until(() => server.engine.processId !== killed);
  }
  const response = await work;
  expect(response.status).toBe(500);
  expect(await response.json()).toMatchObject({
    error: { code: "engine_crashed", type: "server_error", message: expect.stringContaining("tried twice") },
  });
  await draw();
});

test("a full queue is a 503 that says when to come back", async () => {
  await using busy = await startServer({ EASEL_QUEUE_BOUND: "1" });
  const leaving = new AbortController();
  const work = [1, 2].map(() => busy.fetch(route, longRequest, { signal: leaving.signal }).catch(() => {}));
  await aMoment();
  const response = await busy.fetch(route, small);
  expect(response.status).toBe(503);
  expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
  expect(await response.json()).toMatchObject({ error: { code: "queue_full", type: "server_error" } });
  leaving.abort();
  await Promise.all(work);
});

test("closing the engine answers what is still being drawn", async () => {
  await using closing = await startServer();
  const work = closing.fetch(route, longRequest);
  await aMoment();
  await closing.engine.close();
  const response = await work;
  expect(response.status).toBe(503);
  expect(await response.json()).toMatchObject({
    error: { code: "cancelled", message: expect.stringContaining("shutting down") },
  });
});
