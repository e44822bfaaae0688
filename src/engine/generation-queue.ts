/** A bounded first-in, first-out queue that runs one piece of work at a time. */
import { EaselError } from "../errors.ts";

export interface QueuedWork {
  /** Aborting it takes waiting work out of the queue; running work must watch it by itself. */
  signal: AbortSignal;
  /** Must not reject. */
  run: () => Promise<void>;
  /** Called when the work has to wait, and whenever it moves up. `ahead` counts the running work too. */
  onWaiting?: ((ahead: number) => void) | undefined;
}

/** How long work is thought to take before any was measured. */
const firstGuessMs = 10_000;
/** The weight of the newest measurement in the running average. */
const newestWeight = 0.3;

export class GenerationQueue {
  readonly #bound: number;
  readonly #now: () => number;
  readonly #waiting: QueuedWork[] = [];
  #runningSinceMs: number | undefined;
  #averageMs: number | undefined;

  /** `bound`: how many may wait behind the one that runs. */
  constructor(bound: number, now: () => number = () => performance.now()) {
    this.#bound = bound;
    this.#now = now;
  }

  /** Runs `work` in its turn. Throws `queue_full`, with the seconds to wait, when the queue is at its bound. */
  enqueue(work: QueuedWork): void {
    if (this.#runningSinceMs === undefined) {
      void this.#run(work);
      return;
    }
    if (this.#waiting.length >= this.#bound) {
      const retryAfterSeconds = this.estimateSeconds();
      throw new EaselError(
        "queue_full",
        `The queue is full (${this.#waiting.length} waiting); try again in about ${retryAfterSeconds} s.`,
        { retryAfterSeconds },
      );
    }
    this.#waiting.push(work);
    work.onWaiting?.(this.#waiting.length);
    work.signal.addEventListener("abort", () => this.#remove(work), { once: true });
  }

  /** Seconds, at least 1, until there is room for one more, judged by how long work took of late. */
  estimateSeconds(): number {
    const elapsedMs = this.#runningSinceMs === undefined ? 0 : this.#now() - this.#runningSinceMs;
    const remainingMs = (this.#averageMs ?? firstGuessMs) - elapsedMs;
    return Math.max(1, Math.ceil(remainingMs / 1000));
  }

  async #run(work: QueuedWork): Promise<void> {
    const startedMs = this.#now();
    this.#runningSinceMs = startedMs;
    await work.run();
    if (!work.signal.aborted) this.#measure(this.#now() - startedMs);
    this.#runningSinceMs = undefined;

    const next = this.#waiting.shift();
    if (next) void this.#run(next);
    this.#announce();
  }

  #remove(work: QueuedWork): void {
    const index = this.#waiting.indexOf(work);
    if (index === -1) return;
    this.#waiting.splice(index, 1);
    this.#announce();
  }

  #announce(): void {
    this.#waiting.forEach((work, index) => work.onWaiting?.(index + 1));
  }

  #measure(durationMs: number): void {
    this.#averageMs =
      this.#averageMs === undefined ? durationMs : this.#averageMs + newestWeight * (durationMs - this.#averageMs);
  }
}
