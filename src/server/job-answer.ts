/** Kept jobs on the wire: how one is ordered, and how it is described. */
import type { FastifyReply, FastifyRequest } from "fastify";
import { z } from "zod";
import type { GenerationRequest } from "../engine/generation-request.ts";
import type { Jobs, JobStatus } from "../engine/jobs.ts";
import { deserializeError, InvalidRequestError } from "../errors.ts";
import { webhookSecret } from "../store/keys.ts";
import { bearerKey } from "./auth.ts";
import { idempotencyKeyOf } from "./client-abort.ts";
import { type Deliver, inline, toImagesResponse } from "./drawing-answer.ts";
import { errorBody } from "./error-response.ts";
import { type DrawingBody, errorObject, imagesResponse, repeatable } from "./openai-schemas.ts";
import { checkTarget } from "./public-address.ts";

export interface JobAnswerOptions {
  jobs: Jobs;
  /** Whether webhooks may lead to private addresses. */
  webhookAllowPrivate: boolean;
  linksFor: (request: FastifyRequest) => Deliver;
}

/** What a job remembers of its request to shape its answer by. */
interface Note {
  body: Pick<DrawingBody, "quality" | "output_format" | "response_format">;
  notices: string[];
}

const unixTime = z.number().int().nullable().describe("Unix time, in seconds.");

export const jobObject = z
  .object({
    id: z.string(),
    object: z.literal("image.job"),
    status: z.enum(["queued", "running", "succeeded", "failed", "cancelled"]),
    model: z.string(),
    created_at: unixTime,
    started_at: unixTime,
    finished_at: unixTime,
    ahead: z.number().int().nullable().describe("Generations that will be drawn before this one."),
    progress: z
      .object({ image_index: z.number().int(), step: z.number().int(), steps: z.number().int() })
      .nullable()
      .describe("The picture in hand, and how many of its steps are done."),
    seconds_left: z.number().nullable().describe("Until it should be done, from measured speed."),
    result: imagesResponse.nullable().describe("As `POST /v1/images/generations` would have answered."),
    error: errorObject.nullable(),
  })
  .meta({ id: "Job" });

export type JobObject = z.infer<typeof jobObject>;

/** What a route documents that can answer with a job; `prefersJob` reads it. */
export const jobHeaders = repeatable.extend({
  prefer: z.string().optional().describe("`respond-async`: answer 202 with a job at once."),
});

/** Whether the client would rather have a job than wait (RFC 7240). */
export function prefersJob({ headers }: FastifyRequest): boolean {
  const preferences = [headers["prefer"] ?? []].flat().join(",");
  return preferences.split(",").some((preference) => /^respond-async *(;|$)/i.test(preference.trim()));
}

/** Accepts `generation` as a job and answers 202 with it. */
export async function answerWithJob(
  request: FastifyRequest,
  reply: FastifyReply,
  generation: GenerationRequest,
  { body, notices, jobs, webhookAllowPrivate, linksFor }: JobAnswerOptions & Note,
): Promise<FastifyReply> {
  const { stream, partial_images: previews, webhook_url: webhookUrl } = request.body as DrawingBody;
  if (stream === true) {
    throw new InvalidRequestError(
      "stream",
      "stream must be false for a job; its events are at /v1/images/jobs/ID/events.",
    );
  }
  if ((previews ?? 0) > 0) {
    throw new InvalidRequestError("partial_images", "partial_images must be 0 for a job; previews need a stream.");
  }
  const { quality, output_format, response_format } = body;
  const note: Note = { body: { quality, output_format, response_format }, notices };
  const id = await jobs.keep(generation, {
    client: request.client,
    idempotencyKey: idempotencyKeyOf(request),
    note,
    webhook: await webhookOf(request, webhookUrl, webhookAllowPrivate),
  });
  if (prefersJob(request)) reply.header("preference-applied", "respond-async");
  const answer = await describeJob(request, id, { jobs, linksFor });
  return reply.code(202).header("location", `/v1/images/jobs/${id}`).send(answer);
}

/** The job as it stands, with its pictures when it has succeeded. Throws `not_found`. */
export async function describeJob(
  request: FastifyRequest,
  id: string,
  { jobs, linksFor }: Pick<JobAnswerOptions, "jobs" | "linksFor">,
): Promise<JobObject> {
  const status = await jobs.status(id, request.client);
  if (status.state !== "succeeded") return describeStatus(status);
  const { body, notices } = status.note as Note;
  const deliver = body.response_format === "url" ? linksFor(request) : inline;
  const output = await jobs.output(id, request.client);
  return { ...describeStatus(status), result: await toImagesResponse(output, body, { deliver, notices }) };
}

/** The job as it stands, without its pictures. */
export function describeStatus(status: JobStatus): JobObject {
  const { progress, error } = status;
  return {
    id: status.id,
    object: "image.job",
    status: status.state,
    model: status.model,
    created_at: seconds(status.createdAt),
    started_at: seconds(status.startedAt),
    finished_at: seconds(status.finishedAt),
    ahead: status.ahead ?? null,
    progress: progress ? { image_index: progress.imageIndex, step: progress.step, steps: progress.steps } : null,
    seconds_left: status.secondsLeft ?? null,
    result: null,
    error: error ? errorBody(deserializeError(error)).error : null,
  };
}

async function webhookOf(request: FastifyRequest, url: string | null | undefined, allowPrivate: boolean) {
  if (url === undefined || url === null) return undefined;
  const key = bearerKey(request);
  if (key === undefined) {
    throw new InvalidRequestError(
      "webhook_url",
      "webhook_url needs an API key, because the webhook is signed with it.",
    );
  }
  await checkTarget(url, { param: "webhook_url", allowPrivate });
  return { url, secret: webhookSecret(key) };
}

function seconds(time: Date | undefined): number | null {
  return time === undefined ? null : Math.floor(time.getTime() / 1000);
}
