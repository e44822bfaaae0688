/** Work that nobody waits for: ordered, looked at, watched, cancelled. */
import { ApiError, type ApiErrorBody } from "./errors.ts";
import { serverEvents } from "./server-events.ts";
import type { CallOptions, Transport } from "./transport.ts";
import { type GenerateParams, type Pictures, toPictures, toWire, type WirePictures } from "./types.ts";

export interface Job {
  id: string;
  status: "queued" | "running" | "succeeded" | "failed" | "cancelled";
  model: string;
  /** What will be drawn before it, while it is queued. */
  ahead: number | undefined;
  /** The picture in hand, and how many of its steps are done. */
  progress: JobProgress | undefined;
  /** Until it should be done, from measured speed. */
  secondsLeft: number | undefined;
  /** Its pictures, when it has succeeded. */
  result: Pictures | undefined;
  /** Why it failed. */
  error: ApiError | undefined;
}

export interface JobProgress {
  imageIndex: number;
  step: number;
  steps: number;
}

interface WireJob {
  id: string;
  status: Job["status"];
  model: string;
  ahead: number | null;
  progress: { image_index: number; step: number; steps: number } | null;
  seconds_left: number | null;
  result: WirePictures | null;
  error: ApiErrorBody | null;
}

/** The jobs of this key; a part of `Easel`. */
export class Jobs {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Orders pictures. `webhookUrl` is told when the job ends. */
  async create(params: GenerateParams & { webhookUrl?: string }, options: CallOptions = {}): Promise<Job> {
    const { webhookUrl, ...rest } = params;
    const json = { ...toWire(rest), ...(webhookUrl === undefined ? {} : { webhook_url: webhookUrl }) };
    const idempotencyKey = options.idempotencyKey ?? crypto.randomUUID();
    return toJob(
      await this.#transport.json({ method: "POST", path: "/images/jobs", json, ...options, idempotencyKey }),
    );
  }

  /** How a job stands; its pictures when it is done. */
  async get(id: string, options: CallOptions = {}): Promise<Job> {
    return toJob(await this.#transport.json({ method: "GET", path: pathOf(id), ...options }));
  }

  /** Cancels a job, also while it is drawn. */
  async cancel(id: string, options: CallOptions = {}): Promise<Job> {
    return toJob(await this.#transport.json({ method: "DELETE", path: pathOf(id), ...options }));
  }

  /**
   * Waits for a job's end and tells its progress on the way; gives the job with its pictures.
   *
   * @throws ApiError when the job failed or was cancelled.
   */
  async wait(id: string, options: CallOptions & { onProgress?: (progress: JobProgress) => void } = {}): Promise<Job> {
    const { onProgress, ...call } = options;
    const response = await this.#transport.send({ method: "GET", path: `${pathOf(id)}/events`, ...call });
    for await (const { event, data } of serverEvents(response)) {
      if (event === "image.job.progress") onProgress?.(toProgress(JSON.parse(data) as WireJob["progress"] & object));
    }
    const job = await this.get(id, call);
    if (job.status === "succeeded") return job;
    throw job.error ?? new ApiError({ message: `The job ended as ${job.status}.`, code: job.status });
  }
}

function pathOf(id: string): string {
  return `/images/jobs/${encodeURIComponent(id)}`;
}

function toJob(wire: WireJob): Job {
  return {
    id: wire.id,
    status: wire.status,
    model: wire.model,
    ahead: wire.ahead ?? undefined,
    progress: wire.progress === null ? undefined : toProgress(wire.progress),
    secondsLeft: wire.seconds_left ?? undefined,
    result: wire.result === null ? undefined : toPictures(wire.result),
    error: wire.error === null ? undefined : new ApiError(wire.error),
  };
}

function toProgress(wire: { image_index: number; step: number; steps: number }): JobProgress {
  return { imageIndex: wire.image_index, step: wire.step, steps: wire.steps };
}
