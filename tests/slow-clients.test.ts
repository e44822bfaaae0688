/** Clients that send, or read, as slowly as they can: they lose their connection, and nobody else loses anything. */
import { once } from "node:events";
import { type Socket, connect } from "node:net";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { type EaselServer, startServer, until } from "./support/easel-server.ts";

vi.setConfig({ testTimeout: 120_000 });

const patience = { receiveMs: 2000, readMs: 2000 };
const route = "/v1/images/generations";
const small = { prompt: "a white cat", size: "32x32", steps: 2 };
/** Its answer is more than the system's buffers hold: noisy pictures. */
const bulky = { prompt: "a white cat", size: "512x512", steps: 1, n: 8 };

let server: EaselServer;
beforeAll(async () => {
  server = await startServer({}, { patience });
});
afterAll(() => server[Symbol.asyncDispose]());

/** A connection, and what has come over it. */
function open(): { socket: Socket; received: () => string; closed: Promise<void> } {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  const closed = new Promise<void>((resolve) => socket.on("error", () => {}).once("close", () => resolve()));
  let text = "";
  socket.setEncoding("latin1").on("data", (chunk: string) => (text += chunk));
  return { socket, received: () => text, closed };
}

/** Sends `head` at once, and then a byte now and then for as long as anybody listens. */
async function trickle(head: string): Promise<string> {
  const { socket, received, closed } = open();
  socket.write(head);
  const timer = setInterval(() => socket.write("a"), 50);
  await closed;
  clearInterval(timer);
  return received();
}

const head = (lines: string[]) =>
  [`POST ${route} HTTP/1.1`, "Host: x", `Authorization: Bearer ${server.key}`, ...lines].join("\r\n");

function requestOf(body: object): string {
  const text = JSON.stringify(body);
  return `${head(["Content-Type: application/json", `Content-Length: ${text.length}`])}\r\n\r\n${text}`;
}

async function connections(): Promise<number> {
  return await new Promise((resolve) => server.app.server.getConnections((_, count) => resolve(count)));
}

describe("a request that never ends", () => {
  test.each([
    ["in its headers", () => head(["X-Slow: "])],
    ["in its JSON", () => `${head(["Content-Type: application/json", "Content-Length: 9999"])}\r\n\r\n{"prompt":"`],
    [
      "in a picture that it sends",
      () =>
        `${head(["Content-Type: multipart/form-data; boundary=x", "Content-Length: 9999"]).replace("generations", "edits")}` +
        '\r\n\r\n--x\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n\r\n',
    ],
  ])("%s is refused after a while, with a sentence that says so", async (_, start) => {
    const answer = await trickle(start());
    expect(answer).toMatch(/^HTTP\/1\.1 400 The request took too long to arrive/);
    expect(answer).toContain('"code":"invalid_request"');
    expect(server.jobs.inHand).toBe(0);
  });

  test("keeps nobody else from drawing, even in hundreds", async () => {
    const slow = Array.from({ length: 300 }, () => trickle(head(["X-Slow: "])));
    while ((await connections()) < 300) await sleep(10);
    expect((await server.fetch(route, small)).status).toBe(200);
    await Promise.all(slow);
  });

  test("without a key is refused before its body", async () => {
    const answer = await trickle(
      `POST ${route} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 9999\r\n\r\n{`,
    );
    expect(answer).toMatch(/^HTTP\/1\.1 401 /);
  });
});

describe("an answer", () => {
  test.each([false, true])("that nobody reads is given up, with its connection (stream: %s)", async (stream) => {
    const accepted = once(server.app.server, "connection") as Promise<[Socket]>;
    const { socket } = open();
    const [peer] = await accepted;
    socket.pause();
    socket.write(requestOf({ ...bulky, stream }));
    await until(() => server.jobs.inHand > 0);
    await until(() => server.jobs.inHand === 0, 60_000);
    expect(peer.destroyed).toBe(false);
    await until(() => peer.destroyed);
    socket.destroy();
  });

  test("that is read slowly but steadily arrives whole", async () => {
    const response = await server.fetch(route, bulky);
    const startedMs = performance.now();
    let text = "";
    const decoder = new TextDecoder();
    for await (const chunk of response.body!) {
      text += decoder.decode(chunk, { stream: true });
      await sleep(50);
    }
    expect(performance.now() - startedMs).toBeGreaterThan(patience.readMs);
    expect((JSON.parse(text) as { data: unknown[] }).data).toHaveLength(bulky.n);
  });

  test("that takes longer to draw than anybody may idle is waited for", async () => {
    let tookMs = 0;
    for (let n = 1; tookMs <= patience.readMs; n *= 2) {
      const startedMs = performance.now();
      const response = await server.fetch(route, { ...small, size: "256x256", steps: 150, n });
      expect(response.status).toBe(200);
      tookMs = performance.now() - startedMs;
    }
  });
});
