/** Requests per minute, by token buckets: a key may send a minute's worth at once, and then as fast as its bucket fills. */

export interface RateState {
  limit: number;
  remaining: number;
  /** Until the bucket is full again. */
  resetSeconds: number;
  /** Until the next request is allowed; 0 when this one was. */
  retryAfterSeconds: number;
}

export class RateLimiter {
  readonly #buckets = new Map<string, { tokens: number; atMs: number }>();
  readonly #now: () => number;

  constructor(now: () => number = () => performance.now()) {
    this.#now = now;
  }

  /** Takes one request out of the key's bucket, if there is one in it. */
  take(keyId: string, perMinute: number): RateState {
    const nowMs = this.#now();
    const perMs = perMinute / 60_000;
    const { tokens: before, atMs } = this.#buckets.get(keyId) ?? { tokens: perMinute, atMs: nowMs };
    const filled = Math.min(perMinute, before + (nowMs - atMs) * perMs);
    const allowed = filled >= 1;
    const tokens = allowed ? filled - 1 : filled;
    this.#buckets.set(keyId, { tokens, atMs: nowMs });
    return {
      limit: perMinute,
      remaining: Math.floor(tokens),
      resetSeconds: Math.ceil((perMinute - tokens) / perMs / 1000),
      retryAfterSeconds: allowed ? 0 : Math.ceil((1 - tokens) / perMs / 1000),
    };
  }
}
