import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import type { Engine, GenerationOutput } from "../../engine/engine.ts";
import type { GenerationRequest, RequestLimits } from "../../engine/generation-request.ts";
import { clientAbort } from "../client-abort.ts";
import {
  type ImageGenerationBody,
  imageGenerationBody,
  type ImagesResponse,
  imagesResponse,
} from "../openai-schemas.ts";

export interface ImageRoutesOptions {
  engine: Engine;
  /** The model of requests that name none. */
  defaultModel: string;
  limits: RequestLimits;
}

/** `POST /images/generations`: a prompt in, pictures out. */
export const imageRoutes: FastifyPluginAsyncZod<ImageRoutesOptions> = async (app, options) => {
  const body = imageGenerationBody(options.limits);
  const knownFields = new Set(Object.keys(body.shape));

  app.post(
    "/images/generations",
    { schema: { body, response: { 200: imagesResponse } } },
    async (request, reply): Promise<ImagesResponse> => {
      const signal = clientAbort(reply);
      const generation = await options.engine.submit(toRequest(request.body, options.defaultModel), { signal });
      const output = await generation.result;
      const unknownFields = Object.keys(request.body).filter((name) => !knownFields.has(name));
      return toResponse(output, request.body, unknownFields);
    },
  );
};

function toRequest(body: ImageGenerationBody, defaultModel: string): GenerationRequest {
  return {
    model: body.model ?? defaultModel,
    prompt: body.prompt,
    negativePrompt: body.negative_prompt ?? undefined,
    size: body.size ?? undefined,
    numImages: body.n ?? undefined,
    seed: body.seed ?? undefined,
    numInferenceSteps: body.steps ?? undefined,
    guidanceScale: body.guidance_scale ?? undefined,
    trueCfgScale: body.true_cfg_scale ?? undefined,
  };
}

function toResponse(output: GenerationOutput, body: ImageGenerationBody, unknownFields: string[]): ImagesResponse {
  const data = output.images.map((image) => {
    const size = `${image.width}x${image.height}`;
    const drawnSize = `${image.drawnWidth}x${image.drawnHeight}`;
    return {
      b64_json: Buffer.from(image.data).toString("base64"),
      seed: image.seed,
      size,
      model: output.model,
      ...(drawnSize === size ? {} : { drawn_size: drawnSize }),
    };
  });
  const notices = [...output.notices, ...ignoredFieldsNotice(unknownFields)];
  return {
    created: Math.floor(Date.now() / 1000),
    data,
    size: data[0]?.size ?? "auto",
    quality: body.quality ?? "auto",
    output_format: "png",
    background: "opaque",
    ...(notices.length === 0 ? {} : { notices }),
  };
}

function ignoredFieldsNotice(names: string[]): string[] {
  if (names.length === 0) return [];
  const shown = names.slice(0, 10).map((name) => JSON.stringify(name.slice(0, 40)));
  return [`Unknown parameters had no effect: ${shown.join(", ")}${names.length > shown.length ? ", ..." : ""}.`];
}
