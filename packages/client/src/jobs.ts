/** Work that nobody waits for: ordered, looked at, watched, cancelled. */
import { drawingCall } from "./drawing-call.ts";
import { ApiError, type ApiErrorBody, ConnectionError } from "./errors.ts";
import { serverEvents } from "./server-events.ts";
import { type CallOptions, pause, type Transport, withIdempotencyKey } from "./transport.ts";
import {
  type EditParams,
  type GenerateParams,
  type Pictures,
  toPictures,
  type VariationParams,
  type WirePictures,
} from "./types.ts";

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

/** Before a job is looked at again whose events broke off. */
const pauseMs = 1000;

/** The jobs of this key; a part of `Easel`. */
export class Jobs {
  readonly #transport: Transport;

  constructor(transport: Transport) {
    this.#transport = transport;
  }

  /** Orders pictures, from words or with an `image` from that. `webhookUrl` is told when the job ends. */
  async create(
    params: (GenerateParams | EditParams | VariationParams) & { webhookUrl?: string | undefined },
    options: CallOptions = {},
  ): Promise<Job> {
    const call = { ...drawingCall(params), headers: { prefer: "respond-async" }, ...options };
    return toJob(await this.#transport.json(withIdempotencyKey(call)));
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
   * Waits for a job's end and tells its progress on the way, through broken connections and restarts of the server as far as
   * `maxRetries` bridges them; gives the job with its pictures.
   *
   * @throws ApiError when the job failed or was cancelled.
   */
  async wait(id: string, options: CallOptions & { onProgress?: (progress: JobProgress) => void } = {}): Promise<Job> {
    const { onProgress, ...call } = options;
    for (;;) {
      await this.#follow(id, call, onProgress);
      const job = await this.get(id, call);
      if (job.status === "succeeded") return job;
      if (job.status === "failed" || job.status === "cancelled") {
        throw job.error ?? new ApiError({ message: `The job ended as ${job.status}.`, code: job.status });
      }
      await pause(pauseMs, call.signal);
    }
  }

  /** Tells the progress until the events end, or break off. */
  async #follow(id: string, call: CallOptions, onProgress?: (progress: JobProgress) => void): Promise<void> {
    const response = await this.#transport.stream({ method: "GET", path: `${pathOf(id)}/events`, ...call });
    try {
      for await (const { event, data } of serverEvents(response, call.signal)) {
        if (event === "image.job.progress") onProgress?.(toProgress(JSON.parse(data) as WireJob["progress"] & object));
      }
    } catch (error) {
      if (!(error instanceof ConnectionError)) throw error;
    }
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
