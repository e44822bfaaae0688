/** `stream: true`: what is sent while a picture is drawn, and what happens when somebody stops listening. */
import { connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { OpenAI } from "openai";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { type EaselServer, longRequest, startServer, until } from "./support/easel-server.ts";

let server: EaselServer;
beforeAll(async () => {
  server = await startServer({ EASEL_DISCONNECT_GRACE_SECONDS: "0" });
});
afterAll(() => server[Symbol.asyncDispose]());

const small = { prompt: "a white cat", size: "64x48", steps: 8, seed: 7 };
const route = "/v1/images/generations";
const client = () => new OpenAI({ apiKey: server.key, baseURL: `${server.url}/v1`, maxRetries: 0 });

interface StreamedEvent {
  event: string;
  data: {
    type?: string;
    b64_json?: string;
    size?: string;
    seed?: number;
    image_index?: number;
    partial_image_index?: number;
    usage?: { total_tokens: number; output_tokens: number };
    error?: object;
    [field: string]: unknown;
  };
}

/** The events of an answer; comments are left out. */
function parse(text: string): StreamedEvent[] {
  return text
    .split("\n\n")
    .filter((block) => block.startsWith("event: "))
    .map((block) => {
      const [event, data] = block.split("\n");
      return { event: event!.slice("event: ".length), data: JSON.parse(data!.slice("data: ".length)) };
    });
}

async function stream(body: object): Promise<StreamedEvent[]> {
  const response = await server.fetch(route, { ...small, stream: true, ...body });
  expect(response.status, await response.clone().text()).toBe(200);
  expect(response.headers.get("content-type")).toBe("text/event-stream; charset=utf-8");
  expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  return parse(await response.text());
}

describe("a stream", () => {
  test.each([0, 1, 2, 3])("of %i previews sends them and then the picture", async (count) => {
    const events = await stream({ partial_images: count });
    const types = events.map(({ data }) => data.type);
    expect(types).toEqual([
      ...Array.from({ length: count }, () => "image_generation.partial_image"),
      "image_generation.completed",
    ]);
    expect(events.map(({ event }) => event)).toEqual(types);
    expect(events.slice(0, count).map(({ data }) => data.partial_image_index)).toEqual([...Array(count).keys()]);
  });

  test("previews are pictures of what is being drawn: the later ones are nearer to its end", async () => {
    const events = await stream({ partial_images: 3, steps: 12 });
    const pictures = await Promise.all(
      events.map(async ({ data }) => {
        const file = sharp(Buffer.from(data.b64_json ?? "", "base64"));
        const { width, height } = await file.metadata();
        expect(data.size).toBe(`${width}x${height}`);
        return await file.raw().toBuffer();
      }),
    );
    const last = pictures.at(-1)!;
    const distances = pictures.map((pixels) => pixels.reduce((sum, value, i) => sum + Math.abs(value - last[i]!), 0));
    // Random weights wander on their way; from the first preview on they are near.
    for (const distance of distances.slice(1, 3)) {
      expect(distance).toBeGreaterThan(0);
      expect(distance).toBeLessThan(distances[0]!);
    }
  });

  test("ends with the very picture that the plain answer has", async () => {
    const events = await stream({ partial_images: 2, output_format: "webp" });
    const plain = await server.fetch(route, { ...small, output_format: "webp" });
    const { data } = (await plain.json()) as { data: object[] };
    expect(events.at(-1)?.data).toMatchObject({ ...data[0], output_format: "webp", background: "opaque" });
  });

  test("of n pictures tells them apart, and their usage adds up to the plain answer's", async () => {
    const events = await stream({ n: 2, partial_images: 1 });
    expect(events.map(({ data }) => [data.type?.split(".")[1], data.image_index])).toEqual([
      ["partial_image", 0],
      ["partial_image", 1],
      ["completed", 0],
      ["completed", 1],
    ]);
    const plain = (await (await server.fetch(route, { ...small, n: 2 })).json()) as { usage: { total_tokens: number } };
    const total = events.reduce((sum, { data }) => sum + (data.usage?.total_tokens ?? 0), 0);
    expect(total).toBe(plain.usage.total_tokens);
  });

  test("is what OpenAI's client iterates over", async () => {
    const types: string[] = [];
    const events = await client().images.generate({ prompt: "a cat", size: "32x32", stream: true, partial_images: 2 });
    for await (const event of events) {
      types.push(event.type);
      expect(event.b64_json).toMatch(/^iVBOR/);
    }
    expect(types).toEqual([
      "image_generation.partial_image",
      "image_generation.partial_image",
      "image_generation.completed",
    ]);
  });

  test("answers at once, long before the first preview", async () => {
    const leaving = new AbortController();
    const startedMs = performance.now();
    const response = await server.fetch(route, { ...longRequest, stream: true }, { signal: leaving.signal });
    expect(performance.now() - startedMs).toBeLessThan(2000);
    const { value } = await response.body!.getReader().read();
    expect(Buffer.from(value!).toString()).toBe(": accepted\n\n");
    leaving.abort();
  });
});

describe("a fault", () => {
  test("before the stream begins is a plain error", async () => {
    const response = await server.fetch(route, { ...small, stream: true, model: "nonesuch" });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: "model_not_found" } });
  });

  test("in mid-stream is an error event, which OpenAI's client throws", async () => {
    await using own = await startServer();
    const response = await own.fetch(route, { ...longRequest, stream: true });
    await sleep(500);
    await own.engine.close();
    const events = parse(await response.text());
    expect(events.at(-1)).toMatchObject({ event: "error", data: { error: { code: expect.any(String), param: null } } });
  });
});

/** Whether the engine is free for the next picture within a moment. */
async function isIdle(): Promise<boolean> {
  const startedMs = performance.now();
  expect((await server.fetch(route, { ...small, steps: 1 })).status).toBe(200);
  return performance.now() - startedMs < 4000;
}

describe("a client that leaves in mid-stream", () => {
  test("by aborting stops the work", async () => {
    const leaving = new AbortController();
    const body = { ...longRequest, stream: true, partial_images: 3 };
    const response = await server.fetch(route, body, { signal: leaving.signal });
    await response.body!.getReader().read();
    leaving.abort();
    expect(await isIdle()).toBe(true);
  });

  test("by breaking out of OpenAI's iteration stops the work", async () => {
    const long = { prompt: "a long work", steps: 150, n: 10 };
    const events = await client().images.generate({ ...long, size: "256x256", stream: true, partial_images: 3 });
    setTimeout(() => events.controller.abort(), 300);
    await Array.fromAsync(events).catch(() => {});
    expect(await isIdle()).toBe(true);
  });

  test("by a reset connection stops the work, and the server goes on", async () => {
    const { hostname, port } = new URL(server.url);
    const socket = connect(Number(port), hostname);
    const body = JSON.stringify({ ...longRequest, stream: true, partial_images: 1 });
    socket.write(
      `POST ${route} HTTP/1.1\r\nHost: ${hostname}\r\nAuthorization: Bearer ${server.key}\r\n` +
        `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
    );
    let answer = "";
    socket.on("data", (chunk) => (answer += chunk.toString()));
    await until(() => answer.includes(": accepted"));
    socket.resetAndDestroy();
    expect(await isIdle()).toBe(true);
  });
});
