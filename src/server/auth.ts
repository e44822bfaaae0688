/** Who sends a request, what that key may do, and how fast. */
import { isIP } from "node:net";
import type { FastifyReply, FastifyRequest } from "fastify";
import { EaselError } from "../errors.ts";
import { type ApiKey, invalidity, type KeyStore, loopbackClient, type Scope } from "../store/keys.ts";
import type { RateLimiter } from "./rate-limiter.ts";

declare module "fastify" {
  interface FastifyRequest {
    /** Who sent the request; there on every route that needs a key. */
    client: ApiKey;
  }
}

export interface AuthOptions {
  keys: KeyStore;
  rateLimiter: RateLimiter;
  /** Whether programs on this machine need no key. */
  openLoopback: boolean;
}

/** Which scope a route needs, by the first part of its path. */
const scopeOfArea: Readonly<Record<string, Scope>> = {
  images: "images",
  models: "models",
  model: "models",
  usage: "usage",
  metrics: "metrics",
};

/**
 * A hook that lets a request pass only with a key that may use its route, and sets `request.client`. Throws
 * `unauthorized`, `forbidden`, `rate_limit_exceeded`.
 */
export function requireKey(options: AuthOptions): (request: FastifyRequest, reply: FastifyReply) => Promise<void> {
  return async (request, reply) => {
    const client = await identify(request, options);
    const area = /^(?:\/v1)?\/([^/]*)/.exec(request.routeOptions.url ?? "")?.[1] ?? "";
    const scope = scopeOfArea[area] ?? "admin";
    if (!client.scopes.includes(scope)) {
      throw new EaselError(
        "forbidden",
        `This API key lacks the scope "${scope}"; use another key, or have one created.`,
      );
    }
    // Only what makes work counts: whoever polls a job or lists models first should not wait for it.
    if (scope === "images" && request.method === "POST") limitRate(client, options.rateLimiter, reply);
    request.client = client;
  };
}

/** The key that the request was sent with, as it was sent. */
export function bearerKey({ headers }: FastifyRequest): string | undefined {
  return /^Bearer +(\S+) *$/i.exec(headers.authorization ?? "")?.[1];
}

async function identify(request: FastifyRequest, { keys, openLoopback }: AuthOptions): Promise<ApiKey> {
  const { headers, socket } = request;
  if (openLoopback && headers.authorization === undefined && isFromThisMachine(headers, socket.remoteAddress)) {
    return loopbackClient;
  }
  const key = bearerKey(request);
  if (key === undefined) {
    throw new EaselError("unauthorized", "An API key is required; send it as Authorization: Bearer YOUR_KEY.");
  }
  const found = await keys.find(key);
  const fault = found ? invalidity(found) : "wrong";
  if (!found || fault !== undefined) {
    throw new EaselError("unauthorized", `The API key is ${fault}; check it, or create a new one.`);
  }
  return found;
}

/**
 * Whether a program on this machine speaks for itself. A proxy on this machine speaks for others, and a web page speaks
 * through the browser: it has an Origin of its own, or has made its own name resolve to this machine.
 */
function isFromThisMachine(headers: FastifyRequest["headers"], remoteAddress: string | undefined): boolean {
  const forwarded = ["forwarded", "via", "x-forwarded-for", "x-real-ip"].some((name) => headers[name] !== undefined);
  const origin = headers.origin === undefined ? undefined : URL.parse(headers.origin)?.hostname;
  const foreignPage = headers.origin !== undefined && (origin === undefined || !isLoopbackHost(origin));
  const host = URL.parse(`http://${headers.host ?? ""}`)?.hostname;
  return !forwarded && !foreignPage && host !== undefined && isLoopbackHost(host) && isLoopbackAddress(remoteAddress);
}

function isLoopbackHost(host: string): boolean {
  const bare = host.replace(/^\[|\]$/g, "");
  return bare === "localhost" || (isIP(bare) !== 0 && isLoopbackAddress(bare));
}

function isLoopbackAddress(address: string | undefined): boolean {
  return address !== undefined && /^(::ffff:)?127\.|^::1$/.test(address);
}

/** Counts the request; tells the state of things in OpenAI's headers. */
function limitRate(client: ApiKey, limiter: RateLimiter, reply: FastifyReply): void {
  if (client.requestsPerMinute === undefined) return;
  const state = limiter.take(client.id, client.requestsPerMinute);
  reply
    .header("x-ratelimit-limit-requests", state.limit)
    .header("x-ratelimit-remaining-requests", state.remaining)
    .header("x-ratelimit-reset-requests", `${state.resetSeconds}s`);
  if (state.retryAfterSeconds === 0) return;
  throw new EaselError(
    "rate_limit_exceeded",
    `This key may send ${state.limit} requests a minute; try again in ${state.retryAfterSeconds} s.`,
    { retryAfterSeconds: state.retryAfterSeconds },
  );
}
