/**
 * Generations on behalf of somebody: what a key may do and spend is checked and recorded here, on the way to the engine.
 *
 * Somebody waits for most of them, and their work stops when nobody does any more. A kept job runs without anyone; it waits
 * in the database and its pictures in a folder, so it outlives the server.
 */
import { randomInt, randomUUID } from "node:crypto";
import { EaselError, type SerializedError } from "../errors.ts";
import type { Progress } from "../pipelines/flux-pipeline.ts";
import type { JobRecord, JobStore } from "../store/jobs.ts";
import { type ApiKey, type KeyStore, requireModel } from "../store/keys.ts";
import { ActiveJob, type ActiveJobOptions } from "./active-job.ts";
import type { Engine, Generation, GenerationEvent, GenerationOutput } from "./engine.ts";
import type { GenerationRequest } from "./generation-request.ts";
import type { JobObserver } from "./job-observer.ts";
import { type Recovery, recoverJobs } from "./job-recovery.ts";
import type { KeptInputs } from "./kept-inputs.ts";
import type { KeptPictures } from "./kept-pictures.ts";
import { type KeptRequest, toKept } from "./kept-request.ts";
import { fingerprintOf, type Likeness, refuseOtherRequest, SharedWork } from "./shared-work.ts";

export interface JobsOptions {
  engine: Engine;
  store: JobStore;
  keys: KeyStore;
  inputs: KeptInputs;
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

/** What makes a job outlive its client. */
type Kept = Pick<KeepingOptions, "note" | "webhook">;

const sweepIntervalMs = 3600_000;

export class Jobs {
  readonly #options: JobsOptions;
  readonly #graceMs: number;
  readonly #active = new Map<string, ActiveJob>();
  readonly #shared: SharedWork;
  readonly #observers: JobObserver[] = [];
  #draining = false;

  constructor(options: JobsOptions) {
    this.#options = options;
    this.#graceMs = options.disconnectGraceMs ?? 30_000;
    this.#shared = new SharedWork(this.#graceMs);
  }

  /**
   * Has the request drawn for somebody who waits for it. Throws what the engine's `submit` throws, and `forbidden`,
   * `rate_limit_exceeded`, `insufficient_quota`, `shutting_down`, or what the moderation throws.
   */
  async submit(request: GenerationRequest, { signal, ...options }: WaitingOptions): Promise<Generation> {
    return (await this.#share(request, options)).attach(signal);
  }

  /** Has the request drawn for somebody who will ask for it later; returns the job's id. Throws like `submit`. */
  async keep(request: GenerationRequest, { note, webhook, ...options }: KeepingOptions): Promise<string> {
    if (options.idempotencyKey !== undefined) {
      const earlier = await this.#options.store.findRepeated(options.client.id, options.idempotencyKey);
      if (earlier !== undefined) {
        refuseOtherRequest(earlier.fingerprint, fingerprintOf(options.client.id, request, note));
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
      secondsLeft: active?.secondsLeft(),
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
    return this.#active.get(id)?.events() ?? nothing();
  }

  /** Stops a kept job, be it waiting or being drawn; one that has ended stays as it is. */
  async cancel(id: string, client: ApiKey): Promise<void> {
    await this.#find(id, client);
    const job = this.#active.get(id);
    job?.cancel();
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
    return await recoverJobs({
      ...this.#options,
      observers: this.#observers,
      launch: (job) => this.#launch(job),
    });
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
      if (job.kept && !job.hasStarted) job.suspend();
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
    const likeness: Likeness = {
      fingerprint: fingerprintOf(client.id, request, options.kept?.note),
      // Without a seed each request wants another picture; with a webhook each wants its own message.
      comparable: request.seed !== undefined && options.kept?.webhook === undefined,
      clientId: client.id,
      idempotencyKey,
    };
    const same = this.#shared.find(likeness);
    if (same) {
      for (const observer of this.#observers) observer.shared?.();
      return await same;
    }
    const job = this.#accept(request, { ...options, fingerprint: likeness.fingerprint });
    this.#shared.add(likeness, job);
    return await job;
  }

  async #accept(
    original: GenerationRequest,
    { client, idempotencyKey, fingerprint, kept }: JobOptions & { fingerprint: string; kept?: Kept | undefined },
  ): Promise<ActiveJob> {
    const { engine, store, inputs, moderate } = this.#options;
    // Drawn now, so that a kept job has the same picture whenever it is drawn.
    const request = kept ? { ...original, seed: original.seed ?? randomInt(2 ** 32) } : original;
    const plan = await engine.plan(request);
    engine.requireRoom(client.id);
    await moderate?.(request);

    const id = `job_${randomUUID()}`;
    const pictures = request.numImages ?? 1;
    await store
      .accept(
        {
          id,
          model: request.model,
          pictures,
          pixelSteps: plan.cost.pixelSteps,
          kept: kept && { request: toKept(request, kept.note), webhook: kept.webhook },
          idempotencyKey,
          fingerprint,
        },
        client,
      )
      .catch((error: unknown) => {
        throw this.#withRetryAfter(error);
      });
    try {
      if (kept && request.condition) await inputs.write(id, request.condition);
      return this.#launch({
        id,
        client,
        plan,
        kept: kept !== undefined,
        graceMs: idempotencyKey === undefined ? 0 : this.#graceMs,
      });
    } catch (error) {
      await store.withdraw(id);
      await inputs.remove(id);
      throw this.#withRetryAfter(error);
    }
  }

  #launch(options: ActiveJobOptions): ActiveJob {
    const job = new ActiveJob(options, { ...this.#options, observers: this.#observers });
    this.#active.set(job.id, job);
    const forget = () => void this.#active.delete(job.id);
    job.result.then(forget, forget);
    return job;
  }

  async #find(id: string, client: ApiKey): Promise<JobRecord> {
    const record = await this.#options.store.find(id, client.id);
    if (!record?.kept) throw noSuchJob(id);
    return record;
  }

  #withRetryAfter(error: unknown): unknown {
    if (!(error instanceof EaselError) || error.retryAfterSeconds !== undefined) return error;
    if (error.code !== "rate_limit_exceeded" && error.code !== "queue_full") return error;
    const retryAfterSeconds = this.#options.engine.estimateSeconds();
    return new EaselError(error.code, error.message, { param: error.param, retryAfterSeconds });
  }
}

function noSuchJob(id: string): EaselError {
  return new EaselError("not_found", `There is no job ${id.slice(0, 60)} of this key; it may have been forgotten.`);
}

async function* nothing(): AsyncGenerator<never, void> {}
