/** Enlargements on behalf of somebody who waits: what a key may spend is checked and recorded here, on the way to the engine. */
import { randomUUID } from "node:crypto";
import { CancelledError, EaselError, serializeError } from "../errors.ts";
import type { JobStore } from "../store/jobs.ts";
import { type ApiKey, laneWeights, requireModel } from "../store/keys.ts";
import type { Engine, EnlargementPlan } from "./engine.ts";
import type { EnlargementRequest } from "./enlargement-request.ts";
import type { EnlargementResult } from "./engine-messages.ts";
import { builtInUpscaler } from "../pipelines/built-in-upscaler.ts";
import { interpolation } from "./upscaler-catalog.ts";

export interface EnlargementsOptions {
  engine: Engine;
  store: JobStore;
  /** Is told what went wrong in the background. */
  onFault?: ((error: unknown) => void) | undefined;
}

export interface EnlargingOptions {
  client: ApiKey;
  /** The work stops when it aborts. */
  signal?: AbortSignal | undefined;
}

/** A picture that was enlarged, and by what. */
export interface EnlargementOutput extends EnlargementResult {
  upscaler: string;
}

export class Enlargements {
  readonly #options: EnlargementsOptions;
  readonly #inHand = new Set<Promise<unknown>>();
  #draining = false;

  constructor(options: EnlargementsOptions) {
    this.#options = options;
  }

  /**
   * Throws what the engine's `planEnlargement` and `enqueueEnlargement` throw, and `forbidden`, `rate_limit_exceeded`,
   * `insufficient_quota`, `shutting_down`.
   */
  async submit(request: EnlargementRequest, options: EnlargingOptions): Promise<EnlargementOutput> {
    if (this.#draining) {
      throw new EaselError("shutting_down", "The server is about to stop; try again in a moment.", {
        retryAfterSeconds: 10,
      });
    }
    const work = this.#submit(request, options);
    const ended = work.catch(() => {}).finally(() => this.#inHand.delete(ended));
    this.#inHand.add(ended);
    return await work;
  }

  /** Takes no more work, and waits for what is in hand, but at most so long. */
  async drain(limitMs: number): Promise<void> {
    this.#draining = true;
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, limitMs);
    await Promise.race([Promise.all(this.#inHand), tooLate]);
    clearTimeout(timer);
  }

  async #submit(request: EnlargementRequest, { client, signal }: EnlargingOptions): Promise<EnlargementOutput> {
    const { engine, store } = this.#options;
    const { upscaler = builtInUpscaler } = request;
    // What comes with Easel is there for every key.
    if (![builtInUpscaler, interpolation].includes(upscaler)) requireModel(client, upscaler);
    const plan = await engine.planEnlargement(request);
    engine.requireRoom(client.id);
    const id = `job_${randomUUID()}`;
    await store.accept({ id, model: upscaler, pictures: 1, pixelSteps: plan.cost }, client).catch((error: unknown) => {
      throw withRetryAfter(error, engine.estimateSeconds());
    });
    const enlargement = await this.#enqueue(id, plan, { client, signal });

    let share = 0;
    const watching = (async () => {
      for await (const event of enlargement.events) {
        if (event.type === "started") await store.start(id).catch((error: unknown) => this.#options.onFault?.(error));
        if (event.type === "progress") share = event.step / event.steps;
      }
    })();
    try {
      const result = await enlargement.result;
      await watching;
      await this.#settle(id, { state: "succeeded", pictures: 1, pixelSteps: plan.cost });
      return { ...result, upscaler };
    } catch (error) {
      await watching;
      // A fault of Easel's own costs nothing; work that was stopped costs what was done of it.
      const cancelled = error instanceof CancelledError;
      const pixelSteps = cancelled ? Math.round(plan.cost * share) : 0;
      const state = cancelled ? "cancelled" : "failed";
      await this.#settle(id, { state, pictures: 0, pixelSteps, error: serializeError(error) });
      throw error;
    }
  }

  async #enqueue(id: string, plan: EnlargementPlan, { client, signal }: EnlargingOptions) {
    const { engine, store } = this.#options;
    try {
      return engine.enqueueEnlargement(plan, { signal, lane: client.id, weight: laneWeights[client.priority] });
    } catch (error) {
      await store.withdraw(id);
      throw error;
    }
  }

  async #settle(id: string, end: Parameters<JobStore["settle"]>[1]): Promise<void> {
    // A picture that is there is handed out even when the record of it fails.
    await this.#options.store.settle(id, end).catch((error: unknown) => this.#options.onFault?.(error));
  }
}

function withRetryAfter(error: unknown, retryAfterSeconds: number): unknown {
  if (!(error instanceof EaselError) || error.code !== "rate_limit_exceeded") return error;
  return new EaselError(error.code, error.message, { param: error.param, retryAfterSeconds });
}
