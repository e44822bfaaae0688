import { expect, test } from "vitest";
import { GenerationQueue } from "../src/engine/generation-queue.ts";
import { EaselError } from "../src/errors.ts";

/** Work that runs until it is told to finish. */
function work() {
  const controller = new AbortController();
  const { promise, resolve: finish } = Promise.withResolvers<void>();
  const state = { started: false, ahead: [] as number[] };
  return {
    state,
    abort: () => controller.abort(),
    finish: async () => {
      finish();
      await new Promise((settled) => setImmediate(settled));
    },
    signal: controller.signal,
    onWaiting: (ahead: number) => void state.ahead.push(ahead),
    run: async () => {
      state.started = true;
      await promise;
    },
  };
}

test("work runs one at a time, in the order it came, and is told when it moves up", async () => {
  const queue = new GenerationQueue(10);
  const [first, second, third] = [work(), work(), work()];
  for (const one of [first, second, third]) queue.enqueue(one);
  expect([first, second, third].map(({ state }) => state.started)).toEqual([true, false, false]);

  await first.finish();
  expect([second, third].map(({ state }) => state.started)).toEqual([true, false]);
  await second.finish();
  expect(third.state.started).toBe(true);
  expect(second.state.ahead).toEqual([1]);
  expect(third.state.ahead).toEqual([2, 1]);
});

test("aborted work leaves the queue and makes room", async () => {
  const queue = new GenerationQueue(1);
  const [running, leaving, later] = [work(), work(), work()];
  queue.enqueue(running);
  queue.enqueue(leaving);
  leaving.abort();
  queue.enqueue(later);
  await running.finish();
  expect(leaving.state.started).toBe(false);
  expect(later.state.started).toBe(true);
});

test("a full queue refuses with the seconds until there is room, from measured durations", async () => {
  let nowMs = 0;
  const queue = new GenerationQueue(1, () => nowMs);
  const measured = work();
  queue.enqueue(measured);
  nowMs = 42_000;
  await measured.finish();

  queue.enqueue(work());
  queue.enqueue(work());
  nowMs += 12_000;
  const refusal = catchError(() => queue.enqueue(work()));
  expect(refusal).toMatchObject({ code: "queue_full", retryAfterSeconds: 30 });
  expect(refusal.message).toContain("about 30 s");
});

test("a queue with bound 0 takes work only when idle", async () => {
  const queue = new GenerationQueue(0);
  const first = work();
  queue.enqueue(first);
  expect(catchError(() => queue.enqueue(work()))).toMatchObject({ code: "queue_full" });
  await first.finish();
  queue.enqueue(work());
});

function catchError(action: () => void): EaselError {
  try {
    action();
  } catch (error) {
    if (error instanceof EaselError) return error;
    throw error;
  }
  throw new Error("nothing was thrown");
}
