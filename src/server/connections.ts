/** Connections: how long slow clients are waited for, and what is said to those whose bytes are no request. */
import type { Socket } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { EaselError } from "../errors.ts";
import { errorBody, reasonPhrase } from "./error-response.ts";

export interface Patience {
  /** How long a request may take to arrive, its body included. Looked at every half of this. */
  receiveMs: number;
  /** How long an answer may lie there without any of it being taken. */
  readMs: number;
}

export const usualPatience: Patience = { receiveMs: 60_000, readMs: 60_000 };

/** Fastify's settings for a server that does not wait for ever. */
export function connectionOptions({ receiveMs }: Patience) {
  return {
    // For receiving a request, not for answering it.
    requestTimeout: receiveMs,
    http: { headersTimeout: receiveMs, connectionsCheckingInterval: receiveMs / 2 },
    clientErrorHandler: refuseMalformedHttp,
  };
}

/** A hook that gives an answer up, with its connection, once nobody takes it; who still waits for one is waited for. */
export function giveUpUnreadAnswers({ readMs }: Patience) {
  return async (_request: FastifyRequest, { raw }: FastifyReply): Promise<void> => {
    raw.setTimeout(readMs, () => {
      if (raw.writableLength > 0) raw.destroy();
    });
  };
}

function refuseMalformedHttp(error: NodeJS.ErrnoException, socket: Socket): void {
  if (!socket.writable) {
    socket.destroy();
    return;
  }
  const message = explain(error.code);
  const body = JSON.stringify(errorBody(new EaselError("invalid_request", message)));
  socket.write(
    `HTTP/1.1 400 ${reasonPhrase(message)}\r\nContent-Type: application/json\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\n\r\n${body}`,
  );
  // Not only its own half: the other side may never close the other one.
  socket.destroySoon();
}

function explain(code: string | undefined): string {
  switch (code) {
    case "ERR_HTTP_REQUEST_TIMEOUT":
      return "The request took too long to arrive; send it faster, or a smaller one.";
    case "HPE_HEADER_OVERFLOW":
      return "The request's headers are too large.";
    default:
      return "This is not a well-formed HTTP request.";
  }
}
