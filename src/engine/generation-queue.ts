/**
 * A bounded queue that runs one piece of work at a time and is fair between those who bring it.
 *
 * Start-time fair queueing (Goyal, Vin and Cheng, 1996): each lane's work is laid end to end on a line of virtual time, each
 * piece as long as its cost divided by its weight, and the piece that begins first runs first. A lane that brings little
 * never waits for all the work of one that brings much; a heavier weight gets a larger share; no lane starves.
 */
import { EaselError } from "../errors.ts";

export interface QueuedWork {
  /** Aborting it takes waiting work out of the queue; running work must watch it by itself. */
  signal: AbortSignal;
  /** Must not reject. */
  run: () => Promise<void>;
  /** Called when the work has to wait, and whenever its place changes. `ahead` counts the running work too. */
  onWaiting?: ((ahead: number) => void) | undefined;
  /** Whose work it is. Default: everybody's. */
  lane?: string | undefined;
  /** How much it is, in any unit that is the same for all. Default 1. */
  cost?: number | undefined;
  /** The lane's share in comparison with others. Default 1. */
  weight?: number | undefined;
  /** Work that was accepted before, by an earlier process: it is taken even when the queue is full. */
  acceptedBefore?: boolean | undefined;
}

export interface QueueBounds {
  /** How many may wait behind the one that runs. */
  bound: number;
  /** How many of one lane may wait. Default: as many as may wait at all. */
  laneBound?: number | undefined;
}

/** Work with its place on the line. */
interface Place {
  work: QueuedWork;
  lane: string;
  cost: number;
  length: number;
  /** Virtual time when the work came: it cannot begin before. */
  arrival: number;
  start: number;
  /** What `onWaiting` was last told. */
  announced?: number;
}

/** How long work is thought to take before any was measured. */
const firstGuessMs = 10_000;
/** The weight of the newest measurement in the running average. */
const newestWeight = 0.3;

export class GenerationQueue {
  readonly #bound: number;
  readonly #laneBound: number;
  readonly #now: () => number;
  /** In the order in which they will run. */
  readonly #waiting: Place[] = [];
  /** Where the last piece of each lane that is still of interest ends. */
  readonly #laneEnds = new Map<string, number>();
  #virtualTime = 0;
  #running: { place: Place; sinceMs: number } | undefined;
  #msPerCost: number | undefined;

  constructor({ bound, laneBound = bound }: QueueBounds, now: () => number = () => performance.now()) {
    this.#bound = bound;
    this.#laneBound = laneBound;
    this.#now = now;
  }

  /** How many wait. */
  get depth(): number {
    return this.#waiting.length;
  }

  /** Throws `queue_full`, with the seconds to wait, when new work of the lane would be refused now. */
  requireRoom(lane = ""): void {
    if (this.#running === undefined) return;
    const ofLane = this.#waiting.filter((place) => place.lane === lane).length;
    if (this.#waiting.length < this.#bound && ofLane < this.#laneBound) return;
    const retryAfterSeconds = this.estimateSeconds();
    const whose = this.#waiting.length < this.#bound ? `${ofLane} of this key waiting` : `${this.depth} waiting`;
    throw new EaselError("queue_full", `The queue is full (${whose}); try again in about ${retryAfterSeconds} s.`, {
      retryAfterSeconds,
    });
  }

  /** Runs `work` in its turn. Throws `queue_full`, with the seconds to wait, when the queue is at its bound. */
  enqueue(work: QueuedWork): void {
    const { lane = "", cost = 1, weight = 1 } = work;
    if (!work.acceptedBefore) this.requireRoom(lane);

    const arrival = this.#virtualTime;
    const start = Math.max(arrival, this.#laneEnds.get(lane) ?? 0);
    const place: Place = { work, lane, cost, length: cost / weight, arrival, start };
    this.#laneEnds.set(lane, start + place.length);
    if (this.#running === undefined) {
      void this.#run(place);
      return;
    }
    this.#waiting.push(place);
    work.signal.addEventListener("abort", () => this.#remove(place), { once: true });
    this.#putInOrder();
  }

  /** Seconds, at least 1, until there is room for one more, judged by how long work took of late. */
  estimateSeconds(): number {
    return Math.max(1, Math.ceil(this.#remainingMs() / 1000));
  }

  /** Seconds until `work` should be done, judged likewise; undefined when it is not here. */
  secondsUntilDone(work: QueuedWork): number | undefined {
    if (this.#running?.place.work === work) return Math.ceil(this.#remainingMs() / 1000);
    const index = this.#waiting.findIndex((place) => place.work === work);
    if (index === -1) return undefined;
    const ahead = this.#waiting.slice(0, index + 1).map(({ cost }) => this.#expectedMs(cost));
    return Math.ceil(ahead.reduce((sum, durationMs) => sum + durationMs, this.#remainingMs()) / 1000);
  }

  async #run(place: Place): Promise<void> {
    const sinceMs = this.#now();
    this.#running = { place, sinceMs };
    this.#virtualTime = place.start;
    await place.work.run();
    if (!place.work.signal.aborted) this.#measure((this.#now() - sinceMs) / place.cost);
    this.#running = undefined;

    const next = this.#waiting.shift();
    if (next) void this.#run(next);
    else this.#startAfresh();
    this.#announce();
  }

  /** What the lane had laid behind the removed piece moves up. */
  #remove(removed: Place): void {
    const index = this.#waiting.indexOf(removed);
    if (index === -1) return;
    this.#waiting.splice(index, 1);
    let end = removed.start;
    for (const place of this.#waiting.filter(({ lane }) => lane === removed.lane)) {
      if (place.start < removed.start) continue;
      place.start = Math.max(place.arrival, end);
      end = place.start + place.length;
    }
    this.#laneEnds.set(removed.lane, end);
    this.#putInOrder();
  }

  #putInOrder(): void {
    // A stable sort: of two that begin together, the one that came first goes first.
    this.#waiting.sort((a, b) => a.start - b.start);
    this.#announce();
  }

  #announce(): void {
    this.#waiting.forEach((place, index) => {
      if (place.announced === index + 1) return;
      place.announced = index + 1;
      place.work.onWaiting?.(index + 1);
    });
  }

  /** Nobody waits, so nobody has an advantage to make up for. */
  #startAfresh(): void {
    this.#virtualTime = 0;
    this.#laneEnds.clear();
  }

  #remainingMs(): number {
    if (this.#running === undefined) return 0;
    const { place, sinceMs } = this.#running;
    return Math.max(0, this.#expectedMs(place.cost) - (this.#now() - sinceMs));
  }

  #expectedMs(cost: number): number {
    return this.#msPerCost === undefined ? firstGuessMs : this.#msPerCost * cost;
  }

  #measure(msPerCost: number): void {
    this.#msPerCost =
      this.#msPerCost === undefined ? msPerCost : this.#msPerCost + newestWeight * (msPerCost - this.#msPerCost);
  }
}
