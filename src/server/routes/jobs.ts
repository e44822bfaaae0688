import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { RequestLimits } from "../../engine/generation-request.ts";
import type { ApiKey } from "../../store/keys.ts";
import { bodyNotices, type DrawingDefaults, toGenerationRequest } from "../drawing-request.ts";
import { answerWithJob, describeJob, describeStatus, type JobAnswerOptions, jobObject } from "../job-answer.ts";
import { refuseForm } from "../multipart.ts";
import { imageJobBody, repeatable } from "../openai-schemas.ts";
import { eventStream, sendEvents, type ServerEvent } from "../sse.ts";

export interface JobRoutesOptions extends DrawingDefaults, JobAnswerOptions {
  limits: RequestLimits;
}

/** Generations that nobody waits for: ordered, looked at, watched, cancelled. A job belongs to its key. */
export const jobRoutes: FastifyPluginAsyncZod<JobRoutesOptions> = async (app, options) => {
  const { jobs } = options;
  const tags = ["jobs"];
  const params = z.object({ id: z.string().max(100) });
  const body = imageJobBody(options.limits);

  app.post(
    "/images/jobs",
    {
      preValidation: refuseForm(
        "A job ordered here is a generation, as a JSON object; for a job from a picture send this form to " +
          "/v1/images/edits or /v1/images/variations with the header Prefer: respond-async.",
      ),
      schema: {
        summary: "Draw without waiting",
        description:
          "Takes the JSON body of a generation. For a job from a picture send the form of an edit or a variation to its " +
          "own route with `Prefer: respond-async`.",
        tags,
        headers: repeatable,
        body,
        response: { 202: jobObject },
      },
    },
    async (request, reply) => {
      const generation = await toGenerationRequest(request.body, options);
      const notices = bodyNotices(request.body, new Set(Object.keys(body.shape)));
      return await answerWithJob(request, reply, generation, { ...options, body: request.body, notices });
    },
  );

  app.get(
    "/images/jobs/:id",
    {
      schema: { summary: "How a job stands; its pictures when it is done", tags, params, response: { 200: jobObject } },
    },
    (request) => describeJob(request, request.params.id, options),
  );

  app.delete(
    "/images/jobs/:id",
    { schema: { summary: "Cancel a job, also while it is drawn", tags, params, response: { 200: jobObject } } },
    async ({ client, params: { id } }) => {
      await jobs.cancel(id, client);
      return describeStatus(await jobs.status(id, client));
    },
  );

  app.get(
    "/images/jobs/:id/events",
    { schema: { summary: "Watch a job, as server-sent events", tags, params, response: { 200: eventStream } } },
    async ({ client, params: { id } }, reply) => {
      // Asked for before the answer begins: a job that is not there is still a 404.
      const events = await jobs.watch(id, client);
      return sendEvents(reply, jobEvents(id, client, events));
    },
  );

  /** What happened and happens, and in the end the job itself, without its pictures. */
  async function* jobEvents(
    id: string,
    client: ApiKey,
    events: Awaited<ReturnType<typeof jobs.watch>>,
  ): AsyncGenerator<ServerEvent> {
    for await (const event of events) {
      if (event.type === "queued") yield named("image.job.queued", { id, ahead: event.ahead });
      if (event.type === "started") yield named("image.job.started", { id });
      if (event.type === "progress") {
        const { imageIndex: image_index, step, steps } = event;
        yield named("image.job.progress", { id, image_index, step, steps });
      }
    }
    const job = describeStatus(await jobs.status(id, client));
    yield named(`image.job.${job.status}`, { job });
  }
};

function named(type: string, data: object): ServerEvent {
  return { event: type, data: { type, ...data } };
}
