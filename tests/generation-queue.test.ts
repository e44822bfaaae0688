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
  const queue = new GenerationQueue({ bound: 10 });
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
  const queue = new GenerationQueue({ bound: 1 });
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
  const queue = new GenerationQueue({ bound: 1 }, () => nowMs);
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

test("those who share the queue take turns, however much one of them brings", async () => {
  const queue = new GenerationQueue({ bound: 100 });
  const order: string[] = [];
  const bring = (lane: string, name: string, options: { cost?: number; weight?: number } = {}) => {
    const one = work();
    queue.enqueue({
      ...one,
      lane,
      ...options,
      run: async () => {
        order.push(name);
        await one.run();
      },
    });
    return one;
  };
  const works = [1, 2, 3].map((number) => bring("much", `much ${number}`));
  works.push(bring("little", "little 1"), bring("little", "little 2"));
  expect(works[1]?.state.ahead).toEqual([1, 2]);
  for (const one of works) await one.finish();
  expect(order).toEqual(["much 1", "little 1", "much 2", "little 2", "much 3"]);

  order.length = 0;
  const weighted = [bring("", "now")];
  for (const number of [1, 2, 3]) weighted.push(bring("light", `light ${number}`));
  for (const number of [1, 2, 3]) weighted.push(bring("heavy", `heavy ${number}`, { weight: 4 }));
  for (const one of weighted) await one.finish();
  expect(order).toEqual(["now", "light 1", "heavy 1", "heavy 2", "heavy 3", "light 2", "light 3"]);

  order.length = 0;
  const costly = [bring("", "now"), bring("large", "large 1", { cost: 10 }), bring("large", "large 2", { cost: 10 })];
  for (const number of [1, 2, 3]) costly.push(bring("small", `small ${number}`));
  for (const one of costly) await one.finish();
  expect(order).toEqual(["now", "large 1", "small 1", "small 2", "small 3", "large 2"]);
});

test("whoever takes work back is not the later for it", async () => {
  const queue = new GenerationQueue({ bound: 10 });
  const works = [work(), work(), work(), work()];
  const [running, taken, kept, other] = works;
  for (const one of [running, taken, kept]) queue.enqueue({ ...one!, lane: "one" });
  taken?.abort();
  queue.enqueue({ ...other!, lane: "other" });
  await running?.finish();
  expect(other?.state.started).toBe(true);
  await other?.finish();
  expect(kept?.state.started).toBe(true);
});

test("no lane fills the queue alone", () => {
  const queue = new GenerationQueue({ bound: 3, laneBound: 2 });
  for (let i = 0; i < 3; i++) queue.enqueue({ ...work(), lane: "one" });
  expect(catchError(() => queue.enqueue({ ...work(), lane: "one" }))).toMatchObject({ code: "queue_full" });
  queue.enqueue({ ...work(), lane: "other" });
  expect(catchError(() => queue.enqueue({ ...work(), lane: "third" }))).toMatchObject({ code: "queue_full" });
  queue.enqueue({ ...work(), lane: "third", acceptedBefore: true });
  expect(queue.depth).toBe(4);
});

test("the time left is that of all work ahead, each by its cost", async () => {
  let nowMs = 0;
  const queue = new GenerationQueue({ bound: 9 }, () => nowMs);
  const measured = work();
  queue.enqueue({ ...measured, cost: 2 });
  nowMs = 20_000;
  await measured.finish();

  const [running, waiting] = [
    { ...work(), cost: 3 },
    { ...work(), cost: 1 },
  ];
  queue.enqueue(running);
  queue.enqueue(waiting);
  nowMs += 10_000;
  expect([queue.secondsUntilDone(running), queue.secondsUntilDone(waiting)]).toEqual([20, 30]);
  expect(queue.secondsUntilDone(measured)).toBeUndefined();
});

test("a queue with bound 0 takes work only when idle", async () => {
  const queue = new GenerationQueue({ bound: 0 });
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
