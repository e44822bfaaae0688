import type { FastifyReply } from "fastify";

/** A signal that aborts when the client leaves before its answer is complete. */
export function clientAbort(reply: FastifyReply): AbortSignal {
  const controller = new AbortController();
  // Not `request.signal`: that fires as soon as an ordinary JSON body has been read.
  reply.raw.once("close", () => {
    if (!reply.raw.writableEnded) controller.abort();
  });
  return controller.signal;
}
