/** The wire's schemas, in OpenAI's names: one schema gives the types and the validation. */
import { z } from "zod";
import { must, type RequestLimits, requestFields } from "../engine/generation-request.ts";

/** The body of an image generation. Unknown fields are kept, so that the answer can say that they had no effect. */
export function imageGenerationBody(limits: RequestLimits) {
  const fields = requestFields(limits);
  return z.looseObject(
    {
      prompt: fields.prompt,
      model: fields.model.nullish(),
      n: fields.numImages.nullish(),
      size: fields.size.nullish(),
      seed: fields.seed.nullish(),
      steps: fields.numInferenceSteps.nullish(),
      guidance_scale: fields.guidanceScale.nullish(),
      negative_prompt: fields.negativePrompt.nullish(),
      true_cfg_scale: fields.trueCfgScale.nullish(),

      // What is not there yet is refused, not ignored.
      response_format: only("b64_json").nullish(),
      output_format: only("png").nullish(),
      stream: only(false).nullish(),
      partial_images: only(0).nullish(),
      background: only("auto", "opaque").nullish(),

      // Accepted from OpenAI's clients; none of them changes the picture.
      quality: label().nullish(),
      style: label().nullish(),
      moderation: label().nullish(),
      user: label().nullish(),
      output_compression: z.number({ error: must("be a number from 0 to 100") }).nullish(),
    },
    { error: "must be a JSON object" },
  );
}

export type ImageGenerationBody = z.infer<ReturnType<typeof imageGenerationBody>>;

export const imagesResponse = z.object({
  /** Unix time, in seconds. */
  created: z.number().int(),
  data: z.array(
    z.object({
      b64_json: z.string(),
      seed: z.number().int(),
      size: z.string(),
      model: z.string(),
      /** The size the model drew, when the picture was then enlarged or reduced to `size`. */
      drawn_size: z.string().optional(),
    }),
  ),
  size: z.string(),
  quality: z.string(),
  output_format: z.literal("png"),
  background: z.literal("opaque"),
  /** What the user should know: what was truncated, enlarged, ignored. */
  notices: z.array(z.string()).optional(),
});

export type ImagesResponse = z.infer<typeof imagesResponse>;

export const modelObject = z.object({
  id: z.string(),
  object: z.literal("model"),
  created: z.number().int(),
  owned_by: z.string(),
});

export const modelList = z.object({ object: z.literal("list"), data: z.array(modelObject) });

/** LiteLLM's model list, which Regolo's command line reads. */
export const modelInfoList = z.object({
  data: z.array(z.object({ model_name: z.string(), model_info: z.object({ mode: z.string() }) })),
});

function only<const T extends string | number | boolean>(...values: [T, ...T[]]) {
  const allowed = values.map((value) => JSON.stringify(value)).join(" or ");
  return z.literal(values, {
    error: ({ input }) => `can only be ${allowed} for now, not ${JSON.stringify(input)?.slice(0, 60)}`,
  });
}

function label() {
  return z.string({ error: must("be a text") }).max(1000, { error: "must have at most 1000 characters" });
}
