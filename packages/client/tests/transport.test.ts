/** How the client behaves towards a server that stumbles; the server here answers from a script. */
import { createServer, type IncomingMessage, type ServerResponse } from "node:http";
import type { AddressInfo } from "node:net";
import { afterEach, describe, expect, it } from "vitest";
import {
  ApiError,
  AuthenticationError,
  ConnectionError,
  Easel,
  InvalidRequestError,
  RateLimitError,
  ServerError,
  TimeoutError,
} from "../src/index.ts";

type Answer = (response: ServerResponse, request: IncomingMessage) => void;

const picture = { b64_json: Buffer.from("a picture").toString("base64"), seed: 7, size: "64x64", model: "m" };
const success: Answer = (response) => json(response, 200, { created: 1, data: [picture] });
const failure =
  (
    status: number,
    headers: Record<string, string> = {},
    body: object = { error: { message: "no", code: "c", param: "n" } },
  ): Answer =>
  (response) =>
    json(response, status, body, { "x-request-id": "req_1", ...headers });

function json(response: ServerResponse, status: number, body: object, headers: Record<string, string> = {}): void {
  response.writeHead(status, { "content-type": "application/json", ...headers }).end(JSON.stringify(body));
}

const stops: (() => void)[] = [];
afterEach(() => stops.splice(0).forEach((stop) => stop()));

/** A server that gives these answers in turn, and a client of it. */
async function scripted(...answers: Answer[]) {
  const requests: IncomingMessage[] = [];
  const server = createServer((request, response) => {
    requests.push(request);
    request.resume();
    answers[requests.length - 1]?.(response, request);
  });
  await new Promise<void>((resolve) => server.listen(0, "127.0.0.1", resolve));
  stops.push(() => {
    server.closeAllConnections();
    server.close();
  });
  const baseURL = `http://127.0.0.1:${(server.address() as AddressInfo).port}`;
  return { requests, baseURL, easel: new Easel({ apiKey: "secret", baseURL }) };
}

const broken: Answer = (response) => response.destroy();
const half: Answer = (response) => {
  response.writeHead(200, { "content-type": "application/json", "content-length": "1000" }).write('{"data":[');
  setTimeout(() => response.destroy(), 20);
};
const brokenEvents: Answer = (response) => {
  response.writeHead(200, { "content-type": "text/event-stream" });
  response.write('event: image.job.progress\ndata: {"image_index":0,"step":1,"steps":2}\n\n');
  setTimeout(() => response.destroy(), 20);
};
const prompt = "a cat";

describe("the client", () => {
  it("sends the key and the wire's names, and gives each picture's bytes", async () => {
    const { easel, requests } = await scripted(success);
    const { images } = await easel.generate({ prompt, guidanceScale: 3, size: "64x64" });
    expect(Buffer.from(images[0]!.bytes).toString()).toBe("a picture");
    expect(images[0]).toMatchObject({ seed: 7, size: "64x64", model: "m" });
    expect(requests[0]).toMatchObject({ method: "POST", url: "/v1/images/generations" });
    expect(requests[0]!.headers["authorization"]).toBe("Bearer secret");
  });

  it.each(["", "/", "/v1", "/v1/"])("accepts a base URL that ends in %j", async (ending) => {
    const { baseURL, requests } = await scripted(success);
    await new Easel({ baseURL: baseURL + ending }).generate({ prompt });
    expect(requests[0]!.url).toBe("/v1/images/generations");
  });

  it("tries again after a 503, as soon as the server says, under the same idempotency key", async () => {
    const { easel, requests } = await scripted(
      failure(503, { "retry-after": "0" }),
      failure(429, { "retry-after": "0" }),
      success,
    );
    await easel.generate({ prompt });
    const keys = requests.map((request) => request.headers["idempotency-key"]);
    expect(keys).toHaveLength(3);
    expect(new Set(keys).size).toBe(1);
    expect(keys[0]).toMatch(/^[0-9a-f]{32}$/);
  });

  it("gives up after its retries and tells the last error", async () => {
    const busy = failure(503, { "retry-after": "0" });
    const { easel, requests } = await scripted(busy, busy, busy, busy);
    await expect(easel.generate({ prompt })).rejects.toBeInstanceOf(ServerError);
    expect(requests).toHaveLength(3);
  });

  it.each([
    ["a 400", failure(400), InvalidRequestError],
    ["a 401", failure(401), AuthenticationError],
    ["a 429 that says so", failure(429, { "x-should-retry": "false" }), RateLimitError],
    ["a 503 that asks for an hour", failure(503, { "retry-after": "3600" }), ServerError],
  ])("does not try again after %s", async (_, answer, kind) => {
    const { easel, requests } = await scripted(answer, success);
    const error = await easel.generate({ prompt }).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(kind);
    expect(error).toMatchObject({ message: "no", code: "c", param: "n", requestId: "req_1" });
    expect(requests).toHaveLength(1);
  });

  it("makes sense of an error page that is no JSON", async () => {
    const { easel } = await scripted((response) => response.writeHead(404).end("<html>"));
    await expect(easel.models()).rejects.toThrow("The server answered 404 Not Found.");
  });

  it("tries again after a broken connection, and says so when it stays broken", async () => {
    const { easel } = await scripted(broken, success);
    await easel.generate({ prompt });
    const { easel: other } = await scripted(broken);
    await expect(other.generate({ prompt }, { maxRetries: 0 })).rejects.toBeInstanceOf(ConnectionError);
  });

  it("asks again for an answer that breaks off, and says so of a stream", async () => {
    const { easel, requests } = await scripted(half, success);
    await easel.generate({ prompt });
    expect(requests).toHaveLength(2);
    const { easel: other } = await scripted(half);
    await expect(Array.fromAsync(other.stream({ prompt }))).rejects.toBeInstanceOf(ConnectionError);
  });

  it("says so when the answer is not Easel's", async () => {
    const { easel } = await scripted((response) => response.end("<html>"));
    await expect(easel.models()).rejects.toThrow("The answer is no JSON");
  });

  it("waits for a job through broken connections", async () => {
    const job = { id: "job_1", status: "running", model: "m", ahead: null, progress: null, seconds_left: 1 };
    const look = (status: string): Answer => {
      const result = status === "succeeded" ? { created: 1, data: [picture] } : null;
      return (response) => json(response, 200, { ...job, status, result, error: null });
    };
    const { easel, requests } = await scripted(brokenEvents, look("running"), brokenEvents, look("succeeded"));
    const steps: number[] = [];
    const { result } = await easel.jobs.wait("job_1", { onProgress: ({ step }) => steps.push(step) });
    expect(result?.images[0]).toMatchObject({ seed: 7 });
    expect(steps).toEqual([1, 1]);
    expect(requests).toHaveLength(4);
  });

  it("stops waiting after its time limit, without trying again", async () => {
    const { easel, requests } = await scripted(() => {});
    await expect(easel.generate({ prompt }, { timeoutMs: 50 })).rejects.toBeInstanceOf(TimeoutError);
    expect(requests).toHaveLength(1);
  });

  it("closes the connection when its signal aborts", async () => {
    const controller = new AbortController();
    let closed = false;
    const { easel } = await scripted((response) => {
      response.on("close", () => (closed = true));
      controller.abort(new Error("changed my mind"));
    });
    await expect(easel.generate({ prompt }, { signal: controller.signal })).rejects.toThrow("changed my mind");
    await expect.poll(() => closed).toBe(true);
  });

  it("reads a stream whose events arrive in pieces, with comments in between", async () => {
    const partial = { type: "image_generation.partial_image", partial_image_index: 0, ...picture };
    const text =
      `: waiting\n\nevent: image_generation.partial_image\r\ndata: ${JSON.stringify(partial)}\r\n\r\n` +
      `data: ${JSON.stringify({ type: "image_generation.completed", ...picture })}\n\ndata: [DONE]\n\n`;
    const { easel } = await scripted(async (response) => {
      response.writeHead(200, { "content-type": "text/event-stream" });
      for (const piece of text.match(/[^]{1,7}/g)!) {
        response.write(piece);
        await new Promise((resolve) => setTimeout(resolve, 1));
      }
      response.end();
    });
    const events = await Array.fromAsync(easel.stream({ prompt, partialImages: 1 }));
    expect(events).toMatchObject([
      { type: "partial", imageIndex: 0, index: 0, image: { seed: 7 } },
      { type: "completed", image: { seed: 7 } },
    ]);
  });

  it("throws the error that ends a stream", async () => {
    const { easel } = await scripted((response) => {
      response.writeHead(200, { "content-type": "text/event-stream", "x-request-id": "req_2" });
      response.end('event: error\ndata: {"error":{"message":"the engine crashed","code":"engine_crashed"}}\n\n');
    });
    const watching = Array.fromAsync(easel.stream({ prompt }));
    await expect(watching).rejects.toMatchObject({ code: "engine_crashed", requestId: "req_2" });
    await expect(watching).rejects.toBeInstanceOf(ApiError);
  });
});
