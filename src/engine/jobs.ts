/**
 * Generations on behalf of somebody: what a key may do and spend is checked and recorded here, on the way to the engine.
 *
 * Somebody waits for most of them, and their work stops when nobody does any more. A kept job runs without anyone; it waits
 * in the database and its pictures in a folder, so it outlives the server.
 */
import { createHash, randomInt, randomUUID } from "node:crypto";
import { serialize } from "node:v8";
import { CancelledError, EaselError, InvalidRequestError, type SerializedError, serializeError } from "../errors.ts";
import type { Progress } from "../pipelines/flux-pipeline.ts";
import type { JobRecord, JobStore } from "../store/jobs.ts";
import { type ApiKey, invalidity, type KeyStore, type Priority, requireModel } from "../store/keys.ts";
import type { Engine, Generation, GenerationEvent, GenerationOutput, GenerationPlan } from "./engine.ts";
import type { GenerationCost } from "./generation-cost.ts";
import type { GenerationRequest } from "./generation-request.ts";
import type { KeptPictures } from "./kept-pictures.ts";

export interface JobsOptions {
  engine: Engine;
  store: JobStore;
  keys: KeyStore;
  pictures: KeptPictures;
  /** Throws when the request must not be drawn, whoever sent it. */
  moderate?: ((request: GenerationRequest) => Promise<void>) | undefined;
  /** How long a picture whose client left waits for the same idempotency key. Default 30,000. */
  disconnectGraceMs?: number | undefined;
  /** Is told what went wrong in the background. */
  onFault?: ((error: unknown) => void) | undefined;
}

export interface JobOptions {
  client: ApiKey;
  /** Who sends the same request with the same key again gets the same generation. */
  idempotencyKey?: string | undefined;
}

export interface WaitingOptions extends JobOptions {
  /** The work stops when it aborts, unless somebody else waits for the same. */
  signal?: AbortSignal | undefined;
}

export interface KeepingOptions extends JobOptions {
  /** Whatever the job's answer depends on; given back by `status`. Plain data. */
  note: unknown;
  webhook?: { url: string; secret: string } | undefined;
}

export interface JobStatus {
  id: string;
  state: JobRecord["state"];
  model: string;
  createdAt: Date;
  startedAt: Date | undefined;
  finishedAt: Date | undefined;
  /** While it waits: generations to be drawn before it. */
  ahead: number | undefined;
  /** While it is drawn. */
  progress: Progress | undefined;
  secondsLeft: number | undefined;
  error: SerializedError | undefined;
  note: unknown;
}

/** Sees what happens to all jobs; times in seconds. */
export interface JobObserver {
  started?(job: { waitSeconds: number; again: boolean }): void;
  step?(seconds: number): void;
  /** Another request gets the pictures of work that was already in hand. */
  shared?(): void;
  ended?(job: EndedJob): void;
}

export interface EndedJob {
  id: string;
  model: string;
  kept: boolean;
  outcome: "succeeded" | "failed" | "cancelled";
  pictures: number;
  /** Of drawing, without waiting. */
  seconds: number;
  /** Whether it ended with the engine process. */
  crashed: boolean;
}

interface ActiveJob {
  id: string;
  client: ApiKey;
  kept: boolean;
  model: string;
  cost: GenerationCost;
  generation: Generation;
  /** Settles when the end is recorded. */
  result: Promise<GenerationOutput>;
  ahead: number | undefined;
  progress: Progress | undefined;
  acceptedMs: number;
  startedMs: number | undefined;
  stepsDrawn: number;
  /** How many wait for it. */
  waiting: number;
  /** How long it outlives the last of them. */
  graceMs: number;
  graceTimer: NodeJS.Timeout | undefined;
  /** To be taken up again by the next start of the server. */
  suspended: boolean;
}

/** What is stored of a kept job. */
interface KeptRequest {
  request: GenerationRequest;
  note: unknown;
}

interface Recovery {
  resumed: string[];
  /** Of these nobody can have the pictures any more; they were not charged. */
  lost: string[];
}

const weights: Readonly<Record<Priority, number>> = { low: 0.25, normal: 1, high: 4 };
/** How often a kept job is begun before it counts as what ends the server. */
const maxAttempts = 2;
const sweepIntervalMs = 3600_000;

export class Jobs {
  readonly #options: JobsOptions;
  readonly #graceMs: number;
  readonly #active = new Map<string, ActiveJob>();
  /** What is in hand, by what makes it the same; promises, because acceptance takes time. */
  readonly #byFingerprint = new Map<string, Promise<ActiveJob>>();
  readonly #byIdempotencyKey = new Map<string, { fingerprint: string; job: Promise<ActiveJob> }>();
  readonly #observers: JobObserver[] = [];
  #draining = false;

  constructor(options: JobsOptions) {
    this.#options = options;
    this.#graceMs = options.disconnectGraceMs ?? 30_000;
  }

  /**
   * Has the request drawn for somebody who waits for it. Throws what the engine's `submit` throws, and `forbidden`,
   * `rate_limit_exceeded`, `insufficient_quota`, `shutting_down`, or what the moderation throws.
   */
  async submit(request: GenerationRequest, { signal, ...options }: WaitingOptions): Promise<Generation> {
    return this.#attach(await this.#share(request, options), signal);
  }

  /** Has the request drawn for somebody who will ask for it later; returns the job's id. Throws like `submit`. */
  async keep(request: GenerationRequest, { note, webhook, ...options }: KeepingOptions): Promise<string> {
    if (options.idempotencyKey !== undefined) {
      const earlier = await this.#options.store.findRepeated(options.client.id, options.idempotencyKey);
      if (earlier !== undefined) {
        refuseOtherRequest(earlier.fingerprint, fingerprintOf(request, { ...options, note }));
        return earlier.id;
      }
    }
    return (await this.#share(request, { ...options, kept: { note, webhook } })).id;
  }

  /** How a kept job stands. Throws `not_found` for another key's, too. */
  async status(id: string, client: ApiKey): Promise<JobStatus> {
    const record = await this.#find(id, client);
    const active = this.#active.get(id);
    return {
      ...record,
      ahead: record.state === "queued" ? active?.ahead : undefined,
      progress: record.state === "running" ? active?.progress : undefined,
      secondsLeft: active?.generation.secondsLeft(),
      note: (record.request as KeptRequest | undefined)?.note,
    };
  }

  /** What a kept job that succeeded has drawn. Throws `not_found` when its pictures are gone. */
  async output(id: string, client: ApiKey): Promise<GenerationOutput> {
    const { result } = await this.#find(id, client);
    if (result === undefined) throw noSuchJob(id);
    return await this.#options.pictures.read(id, result);
  }

  /** What happened so far to a kept job in hand, and what happens, until it ends; nothing when it has ended. */
  async watch(id: string, client: ApiKey): Promise<AsyncIterable<GenerationEvent>> {
    await this.#find(id, client);
    const job = this.#active.get(id);
    return job === undefined ? nothing() : untilSettled(job);
  }

  /** Stops a kept job, be it waiting or being drawn; one that has ended stays as it is. */
  async cancel(id: string, client: ApiKey): Promise<void> {
    await this.#find(id, client);
    const job = this.#active.get(id);
    job?.generation.cancel();
    await job?.result.catch(() => {});
  }

  observe(observer: JobObserver): void {
    this.#observers.push(observer);
  }

  /** How many are waiting or being drawn. */
  get inHand(): number {
    return this.#active.size;
  }

  /** Whether more work is taken. */
  get draining(): boolean {
    return this.#draining;
  }

  /** Right after the start of the server: takes up the kept jobs of the last one, and settles what was lost with it. */
  async recover(): Promise<Recovery> {
    const recovery: Recovery = { resumed: [], lost: [] };
    for (const record of await this.#options.store.unfinished()) {
      const fault = await this.#resume(record).catch((error: unknown) => serializeError(error));
      if (fault === undefined) {
        recovery.resumed.push(record.id);
        continue;
      }
      await this.#options.store.settle(record.id, { state: "failed", pictures: 0, pixelSteps: 0, error: fault });
      recovery.lost.push(record.id);
    }
    return recovery;
  }

  /** Forgets jobs, and their pictures, that ended longer ago than this; now, and every hour until the signal aborts. */
  sweep(retentionMs: number, signal: AbortSignal): void {
    const sweep = async () => {
      const forgotten = await this.#options.store.forget(new Date(Date.now() - retentionMs));
      for (const id of forgotten) await this.#options.pictures.remove(id);
    };
    const report = (error: unknown) => this.#options.onFault?.(error);
    void sweep().catch(report);
    const timer = setInterval(() => void sweep().catch(report), sweepIntervalMs).unref();
    signal.addEventListener("abort", () => clearInterval(timer), { once: true });
  }

  /**
   * Takes no more work, and lets what is being drawn or waited for go on for at most `limitMs`. Then closes the engine. Kept
   * jobs that did not end wait in the database for the next start.
   */
  async drain(limitMs: number): Promise<void> {
    this.#draining = true;
    for (const job of this.#active.values()) {
      if (!job.kept || job.startedMs !== undefined) continue;
      job.suspended = true;
      job.generation.cancel();
    }
    const { promise: tooLate, resolve } = Promise.withResolvers<void>();
    const timer = setTimeout(resolve, limitMs);
    await Promise.race([this.#allEnded(), tooLate]);
    clearTimeout(timer);
    await this.#options.engine.close();
    await this.#allEnded();
  }

  async #allEnded(): Promise<void> {
    await Promise.allSettled([...this.#active.values()].map(({ result }) => result));
  }

  /** The same work in hand, else new work. */
  async #share(request: GenerationRequest, options: JobOptions & { kept?: Kept }): Promise<ActiveJob> {
    if (this.#draining) {
      throw new EaselError("shutting_down", "The server is about to stop; try again in a moment.", {
        retryAfterSeconds: 10,
      });
    }
    const { client, idempotencyKey } = options;
    requireModel(client, request.model);
    const fingerprint = fingerprintOf(request, { ...options, note: options.kept?.note });
    const name = idempotencyKey === undefined ? undefined : JSON.stringify([client.id, idempotencyKey]);
    const repeated = name === undefined ? undefined : this.#byIdempotencyKey.get(name);
    if (repeated) refuseOtherRequest(repeated.fingerprint, fingerprint);

    // Without a seed each request wants another picture; with a webhook each wants its own message.
    const comparable = request.seed !== undefined && options.kept?.webhook === undefined;
    const same = repeated?.job ?? (comparable ? this.#byFingerprint.get(fingerprint) : undefined);
    if (same) {
      for (const observer of this.#observers) observer.shared?.();
      return await same;
    }

    const job = this.#accept(request, { ...options, fingerprint });
    if (comparable) remember(this.#byFingerprint, fingerprint, job, job);
    if (name !== undefined) remember(this.#byIdempotencyKey, name, { fingerprint, job }, job, this.#graceMs);
    return await job;
  }

  async #accept(
    original: GenerationRequest,
    { client, idempotencyKey, fingerprint, kept }: JobOptions & { fingerprint: string; kept?: Kept | undefined },
  ): Promise<ActiveJob> {
    const { engine, store, moderate } = this.#options;
    // Drawn now, so that a kept job has the same picture whenever it is drawn.
    const request = kept ? { ...original, seed: original.seed ?? randomInt(2 ** 32) } : original;
    const plan = await engine.plan(request);
    await moderate?.(request);

    const id = `job_${randomUUID()}`;
    const pictures = request.numImages ?? 1;
    const stored: KeptRequest | undefined = kept && { request, note: kept.note };
    await store
      .accept(
        {
          id,
          model: request.model,
          pictures,
          pixelSteps: plan.cost.pixelSteps,
          kept: stored && { request: stored, webhook: kept?.webhook },
          idempotencyKey,
          fingerprint,
        },
        client,
      )
      .catch((error: unknown) => {
        throw this.#withRetryAfter(error);
      });
    try {
      return this.#launch(id, plan, {
        client,
        kept: kept !== undefined,
        graceMs: idempotencyKey === undefined ? 0 : this.#graceMs,
      });
    } catch (error) {
      await store.withdraw(id);
      throw error;
    }
  }

  /** Takes up a job of an earlier process; returns the reason when that cannot be. */
  async #resume(record: JobRecord): Promise<SerializedError | undefined> {
    const kept = record.request as KeptRequest | undefined;
    if (!record.kept || kept === undefined) {
      return { code: "lost", message: "The server stopped while the generation was in hand; it was not charged." };
    }
    if (record.attempts >= maxAttempts) {
      return { code: "lost", message: `The server stopped ${record.attempts} times while it drew this picture.` };
    }
    const client = await this.#options.keys.findById(record.keyId);
    if (client === undefined || invalidity(client) !== undefined) {
      return { code: "unauthorized", message: "The API key of this job is no longer valid." };
    }
    const plan = await this.#options.engine.plan(kept.request);
    this.#launch(record.id, plan, { client, kept: true, graceMs: 0, acceptedBefore: true });
    return undefined;
  }

  #launch(
    id: string,
    plan: GenerationPlan,
    options: Pick<ActiveJob, "client" | "kept" | "graceMs"> & { acceptedBefore?: boolean },
  ): ActiveJob {
    const { acceptedBefore = false, ...rest } = options;
    const generation = this.#options.engine.enqueue(plan, {
      lane: rest.client.id,
      weight: weights[rest.client.priority],
      acceptedBefore,
    });
    const job: ActiveJob = {
      id,
      ...rest,
      model: plan.job.model,
      cost: plan.cost,
      generation,
      result: generation.result,
      ahead: undefined,
      progress: undefined,
      acceptedMs: performance.now(),
      startedMs: undefined,
      stepsDrawn: 0,
      waiting: 0,
      graceTimer: undefined,
      suspended: false,
    };
    this.#active.set(id, job);
    job.result = this.#follow(job).finally(() => {
      clearTimeout(job.graceTimer);
      this.#active.delete(id);
    });
    // Whoever waits sees the failure; a kept job's is recorded.
    job.result.catch(() => {});
    return job;
  }

  /** Somebody waits for the job from now on, until the signal aborts. */
  #attach(job: ActiveJob, signal: AbortSignal | undefined): Generation {
    job.waiting++;
    clearTimeout(job.graceTimer);
    const { promise: left, reject } = Promise.withResolvers<never>();
    left.catch(() => {});
    let attached = true;
    const leave = () => {
      if (!attached) return;
      attached = false;
      job.waiting--;
      if (job.waiting === 0 && !job.kept) this.#abandon(job);
      reject(new CancelledError());
    };
    signal?.addEventListener("abort", leave, { once: true });
    if (signal?.aborted) leave();
    const result = Promise.race([job.result, left]);
    result.catch(() => {}).finally(() => signal?.removeEventListener("abort", leave));
    return {
      id: job.id,
      events: job.generation.events,
      result,
      secondsLeft: () => job.generation.secondsLeft(),
      cancel: leave,
    };
  }

  /** Nobody waits. Another who shares the work may be about to, even without a grace: hence the timer. */
  #abandon(job: ActiveJob): void {
    if (!this.#active.has(job.id)) return;
    job.graceTimer = setTimeout(() => job.generation.cancel(), job.graceMs);
  }

  /** Sees the job to its end and records it. */
  async #follow(job: ActiveJob): Promise<GenerationOutput> {
    const { store, pictures } = this.#options;
    const watching = this.#watch(job);
    const drawn = () => job.stepsDrawn * job.cost.pixelsPerStep;
    try {
      const output = await job.generation.result;
      await watching;
      const result = job.kept ? await pictures.write(job.id, output) : undefined;
      await this.#settle(job, { state: "succeeded", pictures: output.images.length, pixelSteps: drawn(), result });
      return output;
    } catch (error) {
      await watching;
      const cancelled = error instanceof CancelledError;
      if (job.kept && cancelled && (job.suspended || this.#options.engine.closed)) {
        await store.suspend(job.id).catch((fault: unknown) => this.#options.onFault?.(fault));
        throw error;
      }
      // A fault of Easel's own costs nothing; work that was stopped costs what was done of it.
      const pixelSteps = cancelled ? drawn() : 0;
      const state = cancelled ? "cancelled" : "failed";
      await this.#settle(job, { state, pictures: 0, pixelSteps, error: serializeError(error) });
      throw error;
    }
  }

  async #settle(job: ActiveJob, end: Parameters<JobStore["settle"]>[1]): Promise<void> {
    // Pictures that are there are handed out even when the record of it fails.
    await this.#options.store.settle(job.id, end).catch((error: unknown) => this.#options.onFault?.(error));
    const seconds = job.startedMs === undefined ? 0 : (performance.now() - job.startedMs) / 1000;
    const { id, model, kept } = job;
    for (const observer of this.#observers) {
      const crashed = end.error?.code === "engine_crashed";
      observer.ended?.({ id, model, kept, outcome: end.state, pictures: end.pictures, seconds, crashed });
    }
  }

  async #watch(job: ActiveJob): Promise<void> {
    let lastStepMs: number | undefined;
    for await (const event of job.generation.events) {
      const nowMs = performance.now();
      if (event.type === "queued") job.ahead = event.ahead;
      if (event.type === "started") {
        const again = job.startedMs !== undefined;
        job.startedMs = nowMs;
        job.stepsDrawn = 0;
        lastStepMs = undefined;
        const waitSeconds = (nowMs - job.acceptedMs) / 1000;
        for (const observer of this.#observers) observer.started?.({ waitSeconds, again });
        await this.#options.store.start(job.id).catch((error: unknown) => this.#options.onFault?.(error));
      }
      if (event.type === "progress") {
        const { imageIndex, step, steps } = event;
        job.progress = { imageIndex, step, steps };
        job.stepsDrawn++;
        // The first step of a picture has other work before it.
        if (lastStepMs !== undefined && step > 1) {
          for (const observer of this.#observers) observer.step?.((nowMs - lastStepMs) / 1000);
        }
        lastStepMs = nowMs;
      }
    }
  }

  async #find(id: string, client: ApiKey): Promise<JobRecord> {
    const record = await this.#options.store.find(id, client.id);
    if (!record?.kept) throw noSuchJob(id);
    return record;
  }

  #withRetryAfter(error: unknown): unknown {
    if (!(error instanceof EaselError) || error.code !== "rate_limit_exceeded") return error;
    const retryAfterSeconds = this.#options.engine.estimateSeconds();
    return new EaselError(error.code, error.message, { param: error.param, retryAfterSeconds });
  }
}

interface Kept {
  note: unknown;
  webhook?: { url: string; secret: string } | undefined;
}

/** What two requests must have in common to be answered with the same pictures. */
function fingerprintOf(request: GenerationRequest, { client, note }: JobOptions & { note?: unknown }): string {
  return createHash("sha256")
    .update(serialize([client.id, request, note]))
    .digest("hex");
}

function refuseOtherRequest(earlier: string | undefined, now: string): void {
  if (earlier === now) return;
  throw new InvalidRequestError(
    "Idempotency-Key",
    "The Idempotency-Key was used for another request; take a new one for each.",
  );
}

/** Keeps `value` in `map` until `job` has ended, or `lingerMs` longer when it ended well. */
function remember<T>(map: Map<string, T>, name: string, value: T, job: Promise<ActiveJob>, lingerMs = 0): void {
  map.set(name, value);
  const forget = () => {
    if (map.get(name) === value) map.delete(name);
  };
  job
    .then(({ result }) => result)
    .then(
      () => (lingerMs === 0 ? forget() : void setTimeout(forget, lingerMs).unref()),
      () => forget(),
    );
}

function noSuchJob(id: string): EaselError {
  return new EaselError("not_found", `There is no job ${id.slice(0, 60)} of this key; it may have been forgotten.`);
}

async function* nothing(): AsyncGenerator<never, void> {}

async function* untilSettled(job: ActiveJob): AsyncGenerator<GenerationEvent, void> {
  yield* job.generation.events;
  await job.result.catch(() => {});
}
