/** Server-sent events (WHATWG HTML, 9.2): an answer that arrives in parts. */
import { Readable } from "node:stream";
import type { FastifyReply } from "fastify";
import { z } from "zod";
import { deserializeError, serializeError } from "../errors.ts";
import { errorBody } from "./error-response.ts";

export interface ServerEvent {
  event: string;
  data: object;
}

/** The answer in the API's description. */
export const eventStream = {
  description: "Server-sent events; see docs/api.md.",
  content: {
    "text/event-stream": {
      schema: z.object({ event: z.string(), data: z.string().describe("JSON, with the event's name as its `type`.") }),
    },
  },
};

/** Proxies and browsers take a connection that is silent for long for dead. */
const defaultKeepAliveMs = 15_000;

/**
 * Answers with `events` as they come and with comments in between. What they throw becomes an event `error` with
 * OpenAI's error object, since the status has long been sent.
 */
export function sendEvents(
  reply: FastifyReply,
  events: AsyncIterable<ServerEvent>,
  { keepAliveMs = defaultKeepAliveMs }: { keepAliveMs?: number } = {},
): FastifyReply {
  return reply
    .header("content-type", "text/event-stream; charset=utf-8")
    .header("cache-control", "no-cache, no-transform")
    .header("x-accel-buffering", "no") // nginx would otherwise hold the parts back
    .send(Readable.from(lines(reply, events, keepAliveMs), { objectMode: false }));
}

async function* lines(
  reply: FastifyReply,
  events: AsyncIterable<ServerEvent>,
  keepAliveMs: number,
): AsyncGenerator<string, void> {
  // Sends the headers off, so that the client knows that it was heard.
  yield ": accepted\n\n";
  const iterator = events[Symbol.asyncIterator]();
  try {
    let next = iterator.next();
    for (;;) {
      const result = await within(keepAliveMs, next);
      if (result === undefined) {
        yield ": keep-alive\n\n";
        continue;
      }
      if (result.done) return;
      yield frame(result.value);
      next = iterator.next();
    }
  } catch (error) {
    reply.log.warn({ err: error }, "an answer ended in mid-stream");
    yield frame({ event: "error", data: errorBody(deserializeError(serializeError(error))) });
  } finally {
    await iterator.return?.();
  }
}

/** JSON has no line breaks, so one line holds all of it. */
function frame({ event, data }: ServerEvent): string {
  return `event: ${event}\ndata: ${JSON.stringify(data)}\n\n`;
}

/** What `promise` gives, or undefined when that takes longer than `ms`. */
async function within<T>(ms: number, promise: Promise<T>): Promise<T | undefined> {
  const { promise: late, resolve } = Promise.withResolvers<undefined>();
  const timer = setTimeout(() => resolve(undefined), ms);
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
