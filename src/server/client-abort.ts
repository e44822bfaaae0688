/** Who waits for an answer, and until when. */
import type { FastifyReply, FastifyRequest } from "fastify";
import type { WaitingOptions } from "../engine/jobs.ts";

/** A signal that aborts when the client leaves before its answer is complete. */
export function clientAbort(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  // Not `request.signal`: that fires as soon as an ordinary JSON body has been read.
  reply.raw.once("close", () => {
    if (!reply.raw.writableEnded) controller.abort();
  });
  // It may have left while its request was being read.
  if (reply.raw.destroyed) controller.abort();
  return controller.signal;
}

/** What `Jobs.submit` wants to know of the client of a request. */
export function waitingOptions(request: FastifyRequest, reply: FastifyReply): WaitingOptions {
  return { client: request.client, idempotencyKey: idempotencyKeyOf(request), signal: clientAbort(reply) };
}

/** The header, which the route's schema has checked. */
export function idempotencyKeyOf({ headers }: FastifyRequest): string | undefined {
  return headers["idempotency-key"] as string | undefined;
}
