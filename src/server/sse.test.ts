import { setTimeout as sleep } from "node:timers/promises";
import fastify from "fastify";
import { expect, test } from "vitest";
import { EaselError } from "../errors.ts";
import { sendEvents, type ServerEvent } from "./sse.ts";

async function answerWith(sent: AsyncIterable<ServerEvent>, keepAliveMs?: number): Promise<string> {
  const app = fastify();
  app.get("/", (_request, reply) => sendEvents(reply, sent, keepAliveMs === undefined ? {} : { keepAliveMs }));
  const { body } = await app.inject("/");
  await app.close();
  return body;
}

/** One event after a while, then, if there is one, the error. */
async function* events(data: object, { afterMs = 0, error }: { afterMs?: number; error?: Error } = {}) {
  await sleep(afterMs);
  yield { event: "a", data };
  if (error) throw error;
}

test("each event is its name and one line of JSON, whatever is in it", async () => {
  expect(await answerWith(events({ text: "two\nlines \u2028 and a cat 🐈" }))).toBe(
    ': accepted\n\nevent: a\ndata: {"text":"two\\nlines \u2028 and a cat 🐈"}\n\n',
  );
});

test("comments keep the connection alive while nothing happens", async () => {
  const body = await answerWith(events({}, { afterMs: 100 }), 20);
  expect(body).toMatch(/^: accepted\n\n(: keep-alive\n\n){2,5}event: a\ndata: \{\}\n\n$/);
});

test("an error becomes the last event, in OpenAI's shape", async () => {
  const error = new EaselError("engine_crashed", "The engine is gone.");
  expect(await answerWith(events({}, { error }))).toBe(
    ": accepted\n\nevent: a\ndata: {}\n\nevent: error\n" +
      'data: {"error":{"message":"The engine is gone.","type":"server_error","param":null,"code":"engine_crashed"}}\n\n',
  );
});

test("an unexpected fault does not show its stack", async () => {
  const body = await answerWith(events({}, { error: new TypeError("undefined is not a cat") }));
  expect(body).toContain('"code":"internal"');
  expect(body).not.toContain("sse.test.ts");
});
