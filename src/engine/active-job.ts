/** A job in hand: who waits for it, what happens to it, and the record of its end. */
import { CancelledError, serializeError } from "../errors.ts";
import type { Progress } from "../pipelines/flux-pipeline.ts";
import type { JobEnd, JobStore } from "../store/jobs.ts";
import { type ApiKey, laneWeights } from "../store/keys.ts";
import type { Engine, Generation, GenerationEvent, GenerationOutput, GenerationPlan } from "./engine.ts";
import type { GenerationCost } from "./generation-cost.ts";
import type { JobObserver } from "./job-observer.ts";
import type { KeptInputs } from "./kept-inputs.ts";
import type { KeptPictures } from "./kept-pictures.ts";

export interface ActiveJobOptions {
  id: string;
  client: ApiKey;
  plan: GenerationPlan;
  /** It runs without anyone, and its pictures are stored. */
  kept: boolean;
  /** How long it outlives the last who waits for it, unless it is kept. */
  graceMs: number;
  /** By an earlier process: the queue takes it even when it is full. */
  acceptedBefore?: boolean | undefined;
}

/** What all jobs have in common. */
export interface JobSurroundings {
  engine: Engine;
  store: JobStore;
  inputs: KeptInputs;
  pictures: KeptPictures;
  observers: readonly JobObserver[];
  /** Is told what went wrong in the background. */
  onFault?: ((error: unknown) => void) | undefined;
}

export class ActiveJob {
  readonly id: string;
  readonly kept: boolean;
  /** Settles when the end is recorded. */
  readonly result: Promise<GenerationOutput>;
  readonly #model: string;
  readonly #cost: GenerationCost;
  readonly #graceMs: number;
  readonly #generation: Generation;
  readonly #surroundings: JobSurroundings;
  readonly #acceptedMs = performance.now();
  #startedMs: number | undefined;
  #stepsDrawn = 0;
  #ahead: number | undefined;
  #progress: Progress | undefined;
  /** How many wait for it. */
  #waiting = 0;
  #graceTimer: NodeJS.Timeout | undefined;
  #suspended = false;
  #ended = false;

  /** Puts the job into the engine's queue. Throws `queue_full`, `cancelled`. */
  constructor({ id, client, plan, kept, graceMs, acceptedBefore }: ActiveJobOptions, surroundings: JobSurroundings) {
    this.id = id;
    this.kept = kept;
    this.#model = plan.job.model;
    this.#cost = plan.cost;
    this.#graceMs = graceMs;
    this.#surroundings = surroundings;
    this.#generation = surroundings.engine.enqueue(plan, {
      lane: client.id,
      weight: laneWeights[client.priority],
      acceptedBefore,
    });
    this.result = this.#follow().finally(() => {
      this.#ended = true;
      clearTimeout(this.#graceTimer);
    });
    // Whoever waits sees the failure; a kept job's is recorded.
    this.result.catch(() => {});
  }

  /** Generations to be drawn before it, while it waits. */
  get ahead(): number | undefined {
    return this.#ahead;
  }

  get progress(): Progress | undefined {
    return this.#progress;
  }

  get hasStarted(): boolean {
    return this.#startedMs !== undefined;
  }

  secondsLeft(): number | undefined {
    return this.#generation.secondsLeft();
  }

  cancel(): void {
    this.#generation.cancel();
  }

  /** Stops a kept job so that the next start of the server takes it up again. */
  suspend(): void {
    this.#suspended = true;
    this.cancel();
  }

  /** Somebody waits for the job from now on, until the signal aborts. */
  attach(signal: AbortSignal | undefined): Generation {
    this.#waiting++;
    clearTimeout(this.#graceTimer);
    const { promise: left, reject } = Promise.withResolvers<never>();
    left.catch(() => {});
    let attached = true;
    const leave = () => {
      if (!attached) return;
      attached = false;
      this.#waiting--;
      if (this.#waiting === 0 && !this.kept) this.#abandon();
      reject(new CancelledError());
    };
    signal?.addEventListener("abort", leave, { once: true });
    if (signal?.aborted) leave();
    const result = Promise.race([this.result, left]);
    result.catch(() => {}).finally(() => signal?.removeEventListener("abort", leave));
    return {
      id: this.id,
      events: this.#generation.events,
      result,
      secondsLeft: () => this.secondsLeft(),
      cancel: leave,
    };
  }

  /** Everything that happened and happens, until the end is recorded. */
  async *events(): AsyncGenerator<GenerationEvent, void> {
    yield* this.#generation.events;
    await this.result.catch(() => {});
  }

  /** Nobody waits. Another who shares the work may be about to, even without a grace: hence the timer. */
  #abandon(): void {
    if (this.#ended) return;
    this.#graceTimer = setTimeout(() => this.cancel(), this.#graceMs);
  }

  /** Sees the job to its end and records it. */
  async #follow(): Promise<GenerationOutput> {
    const { engine, store, pictures, onFault } = this.#surroundings;
    const watching = this.#watch();
    const drawn = () => this.#stepsDrawn * this.#cost.pixelsPerStep;
    try {
      const output = await this.#generation.result;
      await watching;
      const result = this.kept ? await pictures.write(this.id, output) : undefined;
      const pixelSteps = drawn() + this.#cost.enlarging;
      await this.#settle({ state: "succeeded", pictures: output.images.length, pixelSteps, result }, output);
      return output;
    } catch (error) {
      await watching;
      const cancelled = error instanceof CancelledError;
      if (this.kept && cancelled && (this.#suspended || engine.closed)) {
        await store.suspend(this.id).catch((fault: unknown) => onFault?.(fault));
        throw error;
      }
      // A fault of Easel's own costs nothing; work that was stopped costs what was done of it.
      const pixelSteps = cancelled ? drawn() : 0;
      const state = cancelled ? "cancelled" : "failed";
      await this.#settle({ state, pictures: 0, pixelSteps, error: serializeError(error) });
      throw error;
    }
  }

  async #settle(end: JobEnd, output?: GenerationOutput): Promise<void> {
    const { store, inputs, observers, onFault } = this.#surroundings;
    const report = (error: unknown) => onFault?.(error);
    // Pictures that are there are handed out even when the record of it fails.
    await store.settle(this.id, end).catch(report);
    await inputs.remove(this.id).catch(report);
    const seconds = this.#startedMs === undefined ? 0 : (performance.now() - this.#startedMs) / 1000;
    const ended = {
      id: this.id,
      model: this.#model,
      kept: this.kept,
      outcome: end.state,
      pictures: end.pictures,
      foundLoaded: output?.foundLoaded,
      seconds,
      crashed: end.error?.code === "engine_crashed",
    };
    for (const observer of observers) observer.ended?.(ended);
  }

  async #watch(): Promise<void> {
    const { store, observers, onFault } = this.#surroundings;
    let lastStepMs: number | undefined;
    for await (const event of this.#generation.events) {
      const nowMs = performance.now();
      if (event.type === "queued") this.#ahead = event.ahead;
      if (event.type === "started") {
        const again = this.hasStarted;
        this.#startedMs = nowMs;
        this.#stepsDrawn = 0;
        lastStepMs = undefined;
        const waitSeconds = (nowMs - this.#acceptedMs) / 1000;
        for (const observer of observers) observer.started?.({ waitSeconds, again });
        await store.start(this.id).catch((error: unknown) => onFault?.(error));
      }
      if (event.type === "progress") {
        const { imageIndex, step, steps } = event;
        this.#progress = { imageIndex, step, steps };
        this.#stepsDrawn++;
        // The first step of a picture has other work before it.
        if (lastStepMs !== undefined && step > 1) {
          for (const observer of observers) observer.step?.((nowMs - lastStepMs) / 1000);
        }
        lastStepMs = nowMs;
      }
    }
  }
}
