/** What browsers are told: which pages may call, and to take every answer for nothing more than it is. */
import type { FastifyReply, FastifyRequest } from "fastify";

const securityHeaders = {
  "x-content-type-options": "nosniff",
  "x-frame-options": "DENY",
  "referrer-policy": "no-referrer",
  "content-security-policy": "default-src 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
} as const;

const corsMaxAgeSeconds = 600;
const allowedHeaders = "authorization, content-type, idempotency-key, prefer";
/** Beyond those that pages may read anyway. */
const exposedHeaders =
  "x-request-id, retry-after, x-should-retry, location, preference-applied, x-ratelimit-limit-requests, " +
  "x-ratelimit-remaining-requests, x-ratelimit-reset-requests";

/**
 * A hook for every request. Sets security headers; lets pages of `origins` ("*" stands for all) use the API, and answers
 * their browsers' preflight requests. Without origins no page of another origin may.
 */
export function browserSecurity(
  origins: readonly string[],
): (request: FastifyRequest, reply: FastifyReply) => Promise<FastifyReply | undefined> {
  return async ({ method, headers }, reply) => {
    reply.headers(securityHeaders);
    if (origins.length === 0) return undefined;
    reply.header("vary", "Origin");
    const { origin } = headers;
    if (origin === undefined || !(origins.includes("*") || origins.includes(origin))) return undefined;

    reply
      .header("access-control-allow-origin", origins.includes("*") ? "*" : origin)
      .header("access-control-expose-headers", exposedHeaders);
    if (method !== "OPTIONS" || headers["access-control-request-method"] === undefined) return undefined;
    return await reply
      .header("access-control-allow-methods", "GET, POST, DELETE")
      // The page's own client may add headers of its own; none of them means anything here.
      .header("access-control-allow-headers", headers["access-control-request-headers"] ?? allowedHeaders)
      .header("access-control-max-age", corsMaxAgeSeconds)
      .code(204)
      .send();
  };
}
