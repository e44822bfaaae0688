import { expect, test } from "vitest";
import { RateLimiter } from "./rate-limiter.ts";

test("a minute's worth may come at once, then as fast as it fills; keys do not share", () => {
  let nowMs = 0;
  const limiter = new RateLimiter(() => nowMs);
  for (const remaining of [2, 1, 0]) expect(limiter.take("a", 3)).toMatchObject({ remaining, retryAfterSeconds: 0 });
  expect(limiter.take("a", 3)).toEqual({ limit: 3, remaining: 0, resetSeconds: 60, retryAfterSeconds: 20 });
  expect(limiter.take("b", 3).retryAfterSeconds).toBe(0);
  nowMs = 20_000;
  expect(limiter.take("a", 3).retryAfterSeconds).toBe(0);
  expect(limiter.take("a", 3).retryAfterSeconds).toBe(20);
  nowMs = 3600_000;
  expect(limiter.take("a", 3)).toMatchObject({ remaining: 2 });
});
