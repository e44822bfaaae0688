import type { FastifyReply, FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import type { RequestLimits } from "../../engine/generation-request.ts";
import { waitingOptions } from "../client-abort.ts";
import { inline, toEvents, toImagesResponse } from "../drawing-answer.ts";
import { bodyNotices, type DrawingDefaults, toGenerationRequest } from "../drawing-request.ts";
import { answerWithJob, jobHeaders, type JobAnswerOptions, jobObject, prefersJob } from "../job-answer.ts";
import { readForm } from "../multipart.ts";
import {
  type DrawingBody,
  imageEditBody,
  imageGenerationBody,
  imagesResponse,
  type ImagesResponse,
  imageVariationBody,
} from "../openai-schemas.ts";
import { eventStream, sendEvents } from "../sse.ts";

export interface ImageRoutesOptions extends DrawingDefaults, JobAnswerOptions {
  limits: RequestLimits;
}

/** Pictures from words, from pictures and words, and from pictures alone. */
export const imageRoutes: FastifyPluginAsyncZod<ImageRoutesOptions> = async (app, options) => {
  const response = {
    200: {
      description: "The pictures; with `stream` as server-sent events.",
      content: { "application/json": { schema: imagesResponse }, ...eventStream.content },
    },
    202: jobObject.describe("With `Prefer: respond-async`."),
  };
  const common = { tags: ["images"], headers: jobHeaders, response };
  const form = { ...common, consumes: ["multipart/form-data"] };

  const fromWords = imageGenerationBody(options.limits);
  app.post(
    "/images/generations",
    {
      schema: { summary: "Draw pictures from a prompt", ...common, body: fromWords },
    },
    (request, reply) => draw(request, reply, "image_generation", fromWords),
  );

  const edit = imageEditBody(options.limits);
  app.post(
    "/images/edits",
    {
      preValidation: readForm("image", "mask"),
      schema: { summary: "Draw anew from a picture: all of it, or where a mask is transparent", ...form, body: edit },
    },
    (request, reply) => draw(request, reply, "image_edit", edit),
  );

  const variation = imageVariationBody(options.limits);
  app.post(
    "/images/variations",
    {
      preValidation: readForm("image"),
      schema: { summary: "Draw other pictures like this one", ...form, body: variation },
    },
    (request, reply) => draw(request, reply, "image_edit", variation),
  );

  async function draw(
    request: FastifyRequest,
    reply: FastifyReply,
    kind: "image_generation" | "image_edit",
    { shape }: { shape: object },
  ): Promise<ImagesResponse> {
    const body = request.body as DrawingBody & Record<string, unknown>;
    const notices = bodyNotices(body, new Set(Object.keys(shape)));
    const waiting = waitingOptions(request, reply);
    const drawing = await toGenerationRequest(body, options, notices);
    if (prefersJob(request)) {
      return answerWithJob(request, reply, drawing, { ...options, body, notices }) as unknown as ImagesResponse;
    }
    if (body.webhook_url != null) {
      notices.push("webhook_url had no effect: only jobs have one, which the header Prefer: respond-async makes.");
    }
    const generation = await options.jobs.submit(drawing, waiting);
    // Fastify sends the stream that the reply was given; the schema describes the other answer.
    if (body.stream === true) {
      return sendEvents(reply, toEvents(generation, body, { kind, notices })) as unknown as ImagesResponse;
    }
    const deliver = body.response_format === "url" ? options.linksFor(request) : inline;
    return await toImagesResponse(await generation.result, body, { deliver, notices });
  }
};
