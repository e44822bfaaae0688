/** The one way to have a picture drawn or enlarged: submit, watch, cancel. Knows nothing of HTTP or terminals. */
import { randomUUID } from "node:crypto";
import { CancelledError, EaselError } from "../errors.ts";
import type { DeviceChoice } from "../onnx/device-choice.ts";
import type { FluxPipelineOptions, Progress } from "../pipelines/flux-pipeline.ts";
import type { ConversionTotals } from "../pipelines/model-conversion.ts";
import { EngineHost, type EngineHostOptions, type RunOptions } from "./engine-host.ts";
import type { EncodedPreview, EnlargementJob, EnlargementResult, GenerationJob, JobResult } from "./engine-messages.ts";
import { type EnlargementRequest, planEnlargement } from "./enlargement-request.ts";
import { EventLog } from "./event-log.ts";
import { enlargingCost, type GenerationCost, generationCost } from "./generation-cost.ts";
import { GenerationQueue, type QueuedWork } from "./generation-queue.ts";
import type { GenerationRequest } from "./generation-request.ts";
import { LoraCatalog } from "./lora-catalog.ts";
import type { ModelCatalog } from "./model-catalog.ts";
import { fitCondition, planJob, type Planning, type SizeLimits } from "./plan-job.ts";
import { UpscalerCatalog } from "./upscaler-catalog.ts";

export interface EngineOptions extends Omit<FluxPipelineOptions, "modelDir">, EngineHostOptions, Partial<SizeLimits> {
  catalog: ModelCatalog;
  /** Default: no LoRAs. */
  loraCatalog?: LoraCatalog | undefined;
  /** Default: what is built in. */
  upscalers?: UpscalerCatalog | undefined;
  /** Generations that may wait behind the one being drawn. Default 16. */
  queueBound?: number | undefined;
  /** Of these, how many of one lane. Default: all of them. */
  queueBoundPerKey?: number | undefined;
  /** Told when a model was loaded, where it runs and why there. */
  onDevice?: ((choice: DeviceChoice) => void) | undefined;
}

export interface SubmitOptions {
  signal?: AbortSignal | undefined;
  /** Whose the work is; those who share the engine take turns. Default: everybody's. */
  lane?: string | undefined;
  /** The lane's share in comparison with others. Default 1. */
  weight?: number | undefined;
  /** An earlier process accepted it: the queue takes it even when it is full. */
  acceptedBefore?: boolean | undefined;
}

/**
 * What happens to a generation, in this order; `queued` comes again whenever its place changes, and `started` when the engine
 * process ended in the middle and a new one begins again. `conversion` and `device` come only when the model had to be
 * converted and loaded.
 */
export type GenerationEvent =
  /** `ahead`: generations to be drawn before this one. */
  | { type: "queued"; ahead: number }
  | { type: "started" }
  /** The model's weights are being converted, once for all later pictures. */
  | ({ type: "conversion" } & ConversionTotals)
  | ({ type: "device" } & DeviceChoice)
  | ({ type: "progress" } & Progress)
  | ({ type: "preview" } & EncodedPreview);

export interface GenerationOutput extends JobResult {
  model: string;
}

/** A request whose model was found and whose gaps were filled. */
export interface GenerationPlan {
  job: GenerationJob;
  cost: GenerationCost;
}

/** An enlargement whose upscaler was found. */
export interface EnlargementPlan {
  job: EnlargementJob;
  /** In pixels × steps. */
  cost: number;
}

/** Work that was accepted. */
export interface Accepted<Result> {
  readonly id: string;
  /** Everything that happened so far and then what happens, until the result is settled. Any number may watch. */
  readonly events: AsyncIterable<GenerationEvent>;
  /** Rejects with an `EaselError`: what the pipeline refused, `cancelled`, `engine_crashed`. */
  readonly result: Promise<Result>;
  /** Seconds until it should be done, from measured speed; undefined when it is done. */
  secondsLeft(): number | undefined;
  cancel(): void;
}

export type Generation = Accepted<GenerationOutput>;
export type Enlargement = Accepted<EnlargementResult>;

export class Engine {
  readonly catalog: ModelCatalog;
  readonly upscalers: UpscalerCatalog;
  readonly #planning: Planning;
  readonly #queue: GenerationQueue;
  readonly #host: EngineHost;
  readonly #onDevice: ((choice: DeviceChoice) => void) | undefined;
  readonly #closing = new AbortController();

  private constructor({
    catalog,
    loraCatalog = new LoraCatalog({}),
    upscalers = new UpscalerCatalog({}),
    queueBound = 16,
    queueBoundPerKey,
    device,
    precision,
    cacheDir,
    threads,
    memoryLimitBytes,
    onDevice,
    ...options
  }: EngineOptions) {
    this.catalog = catalog;
    this.upscalers = upscalers;
    const { minSide = 16, maxSide = 2048, maxUpscaledSide = 4096, ...host } = options;
    this.#planning = {
      pipeline: { device, precision, threads, memoryLimitBytes, cacheDir },
      limits: { minSide, maxSide, maxUpscaledSide },
      loraCatalog,
      upscalers,
    };
    this.#queue = new GenerationQueue({ bound: queueBound, laneBound: queueBoundPerKey });
    this.#host = new EngineHost(host);
    this.#onDevice = onDevice;
  }

  /** An engine whose process is starting; requests may be submitted at once. */
  static start(options: EngineOptions): Engine {
    const engine = new Engine(options);
    engine.#host.start();
    return engine;
  }

  /** The engine process's id, while one is running. */
  get processId(): number | undefined {
    return this.#host.pid;
  }

  /** Whether it was told to close. */
  get closed(): boolean {
    return this.#closing.signal.aborted;
  }

  /**
   * The request with its given picture at the size of the answer: what waits and is passed around should be no larger than it
   * has to be. `notices` gets what the user must be told. Throws `model_not_found`, `model_invalid`.
   */
  async fit(request: GenerationRequest, notices: string[]): Promise<GenerationRequest> {
    if (request.condition === undefined) return request;
    const model = await this.catalog.resolve(request.model);
    return { ...request, ...(await fitCondition(request, model, this.#planning.limits, notices)) };
  }

  /** How many generations wait. */
  get queueDepth(): number {
    return this.#queue.depth;
  }

  /** Throws `queue_full` when new work of this lane would be refused now: asked before it is recorded, a refusal costs little. */
  requireRoom(lane: string): void {
    this.#queue.requireRoom(lane);
  }

  /** Seconds until the queue should have room for one more. */
  estimateSeconds(): number {
    return this.#queue.estimateSeconds();
  }

  /** What drawing the request takes. Throws `model_not_found`, `model_invalid`, `invalid_request`. */
  async plan(request: GenerationRequest): Promise<GenerationPlan> {
    const model = await this.catalog.resolve(request.model);
    const job = await planJob(request, model, this.#planning);
    return { job, cost: generationCost(job) };
  }

  /**
   * Accepts a request into the queue. Throws when it cannot be accepted: `model_not_found`, `model_invalid`,
   * `invalid_request`, `queue_full`; what goes wrong later rejects the generation's `result`.
   */
  async submit(request: GenerationRequest, options: SubmitOptions = {}): Promise<Generation> {
    return this.enqueue(await this.plan(request), options);
  }

  /** The second half of `submit`, for whoever wants to know the cost first. Throws `queue_full`, `cancelled`. */
  enqueue({ job, cost }: GenerationPlan, options: SubmitOptions = {}): Generation {
    return this.#enqueue(cost.pixelSteps, options, async (watchers) => {
      return { model: job.model, ...(await this.#host.generate(job, watchers)) };
    });
  }

  /** What enlarging the picture takes. Throws `model_not_found`, `model_invalid`, `invalid_request`. */
  async planEnlargement(request: EnlargementRequest): Promise<EnlargementPlan> {
    const job = await planEnlargement(request, this.#planning);
    return { job, cost: enlargingCost(job.image, job.enlarging) };
  }

  /** Accepts an enlargement into the queue. Throws like `enqueue`. */
  enqueueEnlargement({ job, cost }: EnlargementPlan, options: SubmitOptions = {}): Enlargement {
    return this.#enqueue(cost, options, (watchers) => this.#host.enlarge(job, watchers));
  }

  #enqueue<Result>(
    cost: number,
    { signal, ...turn }: SubmitOptions,
    work: (watchers: RunOptions) => Promise<Result>,
  ): Accepted<Result> {
    const cancelling = new AbortController();
    const abort = AbortSignal.any([cancelling.signal, this.#closing.signal, ...(signal ? [signal] : [])]);
    if (abort.aborted) throw cancelledError(abort);

    const events = new EventLog<GenerationEvent>();
    const { promise, resolve, reject } = Promise.withResolvers<Result>();
    // A caller may watch the events only; a failure is then no unhandled rejection.
    promise.catch(() => {}).finally(() => events.end());
    // The caller is answered at once; the queue goes on when the process has really stopped.
    abort.addEventListener("abort", () => reject(cancelledError(abort)), { once: true });

    const onDevice = (choice: DeviceChoice) => {
      events.push({ type: "device", ...choice });
      this.#onDevice?.(choice);
    };
    const onConversion = (totals: ConversionTotals) => events.push({ type: "conversion", ...totals });
    const onProgress = (progress: Progress) => events.push({ type: "progress", ...progress });
    const onPreview = (preview: EncodedPreview) => events.push({ type: "preview", ...preview });
    const attempt = async () => {
      events.push({ type: "started" });
      return await work({ signal: abort, onConversion, onDevice, onProgress, onPreview });
    };
    const queued: QueuedWork = {
      ...turn,
      cost,
      signal: abort,
      onWaiting: (ahead) => events.push({ type: "queued", ahead }),
      run: async () => {
        try {
          resolve(await twiceIfItCrashes(attempt));
        } catch (error) {
          reject(error);
        }
      },
    };
    this.#queue.enqueue(queued);
    return {
      id: randomUUID(),
      events,
      result: promise,
      secondsLeft: () => this.#queue.secondsUntilDone(queued),
      cancel: () => cancelling.abort(),
    };
  }

  /** Cancels everything that waits or runs and ends the process. */
  async close(): Promise<void> {
    this.#closing.abort(new CancelledError("The generation was cancelled because Easel is shutting down."));
    await this.#host.close();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.close();
  }
}

/** A process that was killed, perhaps by mistake, costs time only; one that dies of this very work dies again. */
async function twiceIfItCrashes<T>(action: () => Promise<T>): Promise<T> {
  try {
    return await action();
  } catch (error) {
    if (!hasCrashed(error)) throw error;
  }
  try {
    return await action();
  } catch (cause) {
    if (!hasCrashed(cause)) throw cause;
    throw new EaselError("engine_crashed", `It was tried twice. ${cause.message}`, { cause: cause.cause });
  }
}

function hasCrashed(error: unknown): error is EaselError {
  return error instanceof EaselError && error.code === "engine_crashed";
}

function cancelledError(signal: AbortSignal): CancelledError {
  return signal.reason instanceof CancelledError ? signal.reason : new CancelledError();
}
