/** Reads server-sent events (https://html.spec.whatwg.org/multipage/server-sent-events.html) from an answer. */
import { ConnectionError } from "./errors.ts";

export interface ServerEvent {
  /** "message" when the server named none. */
  event: string;
  data: string;
}

/**
 * The events of `response`, until it ends; breaking out of the loop closes the connection. Throws `ConnectionError` when it
 * breaks off, or the reason of the call's `signal`.
 */
export async function* serverEvents(response: Response, signal?: AbortSignal): AsyncGenerator<ServerEvent> {
  let event = "";
  let data: string[] = [];
  for await (const line of lines(response, signal)) {
    if (line === "") {
      if (data.length > 0) yield { event: event || "message", data: data.join("\n") };
      event = "";
      data = [];
      continue;
    }
    const colon = line.indexOf(":");
    if (colon === 0) continue; // a comment, which keeps the connection alive
    const field = colon < 0 ? line : line.slice(0, colon);
    const value = colon < 0 ? "" : line.slice(colon + 1).replace(/^ /, "");
    if (field === "event") event = value;
    else if (field === "data") data.push(value);
  }
}

async function* lines(response: Response, signal: AbortSignal | undefined): AsyncGenerator<string> {
  if (response.body === null) return;
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let pending = "";
  try {
    for (;;) {
      const { value, done } = await reader.read().catch((cause: unknown) => {
        signal?.throwIfAborted();
        throw new ConnectionError("The connection broke while events were arriving.", { cause });
      });
      if (done) return;
      pending += value;
      // A carriage return at the end may be half of a line break.
      const complete = pending.endsWith("\r") ? pending.length - 1 : pending.length;
      const parts = pending.slice(0, complete).split(/\r\n|\n|\r/);
      pending = (parts.pop() ?? "") + pending.slice(complete);
      yield* parts;
    }
  } finally {
    await reader.cancel().catch(() => {});
  }
}
