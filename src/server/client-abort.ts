/** Who waits for an answer, and until when. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { WaitingOptions } from "../engine/jobs.ts";
import { InvalidRequestError } from "../errors.ts";

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

/** What `Jobs.submit` wants to know of the client of a request. Throws `invalid_request` for a bad idempotency key. */
export function waitingOptions(request: FastifyRequest, reply: FastifyReply): WaitingOptions {
  return { client: request.client, idempotencyKey: idempotencyKeyOf(request), signal: clientAbort(reply) };
}

/** What a route that draws documents of it; `idempotencyKeyOf` checks it. */
export const idempotencyHeader = z.looseObject({
  "idempotency-key": z
    .string()
    .optional()
    .describe("1 to 255 characters, new for each request; sent again, it finds the work of the first."),
});

/** Throws `invalid_request` when it is empty or too long. */
export function idempotencyKeyOf({ headers }: FastifyRequest): string | undefined {
  const key = headers["idempotency-key"];
  if (key === undefined) return undefined;
  if (typeof key === "string" && key.length > 0 && key.length <= 255) return key;
  throw new InvalidRequestError("Idempotency-Key", "Idempotency-Key must have 1 to 255 characters.");
}
