/** The wire's schemas, in OpenAI's names: one schema gives the types, the validation and the OpenAPI document. */
import { z } from "zod";
import { must, oneOf, type RequestLimits, requestFields } from "../engine/generation-request.ts";
import { upscaleFactors } from "../images/upscale.ts";
import { type UploadedFile, uploadedFile } from "./multipart.ts";

/** The fields of every way of drawing. Unknown ones are kept, so that the answer can say that they had no effect. */
function drawingFields(limits: RequestLimits) {
  const fields = requestFields(limits);
  return {
    model: fields.model.nullish().describe("A name from `GET /v1/models`."),
    n: fields.numImages.nullish().describe("How many pictures. Default 1."),
    size: fields.size
      .nullish()
      .describe("`WIDTHxHEIGHT` in pixels, multiples of 16, or `auto`: the model's own, or the given picture's."),
    seed: fields.seed.nullish().describe("Picture i of n is drawn with seed + i. Default: random, and returned."),
    steps: fields.numInferenceSteps.nullish().describe("Denoising steps. Default: the model's own."),
    guidance_scale: fields.guidanceScale.nullish().describe("Default: the model's own."),
    negative_prompt: fields.negativePrompt.nullish().describe("What should not be in the picture; twice the work."),
    true_cfg_scale: fields.trueCfgScale.nullish().describe("The negative prompt's weight, with an effect above 1."),
    max_sequence_length: fields.maxSequenceLength.nullish().describe("Tokens of the prompt to read."),
    step_cache: fields.stepCache
      .nullish()
      .describe("How much a step may differ from one before to be taken from it: 0 is off, 0.1 mild. Default 0."),
    lora: fields.loras.nullish().describe("Adapters from `$EASEL_HOME/loras`: names, each with `:SCALE` if not 1."),
    upscale: fields.upscale.nullish().describe("Enlarges the finished picture."),
    quality: fields.quality.nullish().describe("`low` takes half the model's own steps, `high` and `hd` 1.5 times."),
    background: opaqueBackground().nullish(),
    embed_prompt: fields.embedPrompt.nullish().describe("Whether the picture's file tells its prompt."),
    ...outputFields(limits),
    stream: z
      .boolean({ error: must("be true or false") })
      .nullish()
      .describe("Answer with server-sent events."),
    partial_images: fields.previews.nullish().describe("With `stream`: previews of each picture."),

    webhook_url: z
      .string({ error: must("be an http or https address") })
      .max(2000, { error: "must have at most 2000 characters" })
      .nullish()
      .describe("For a job: is told when it ends, in the form and with the signature of Standard Webhooks."),

    // Accepted from OpenAI's clients; none of them changes the picture.
    style: label().nullish(),
    moderation: label().nullish(),
    user: label().nullish(),
  };
}

function outputFields(limits: RequestLimits) {
  const fields = requestFields(limits);
  return {
    response_format: oneOf(["b64_json", "url"]).nullish(),
    output_format: fields.outputFormat.nullish(),
    output_compression: fields.outputQuality.nullish().describe("Of JPEG and WebP: 0 (smallest) to 100 (best)."),
  };
}

interface StreamingFields {
  stream?: boolean | null | undefined;
  partial_images?: number | null | undefined;
  response_format?: string | null | undefined;
}

function checkStreaming({ value, issues }: z.core.ParsePayload<StreamingFields>): void {
  const refuse = (field: keyof StreamingFields, message: string) =>
    issues.push({ code: "custom", input: value[field], path: [field], message });
  if (value.stream !== true && (value.partial_images ?? 0) > 0) {
    refuse("partial_images", "needs stream to be true");
  }
  if (value.stream === true && value.response_format === "url") {
    refuse("response_format", 'must be "b64_json" with stream');
  }
}

const generationExample = { prompt: "A white cat resting in Rome", size: "512x512", seed: 7 };

function generationObject(limits: RequestLimits) {
  const { prompt } = requestFields(limits);
  return z.looseObject({ prompt, ...drawingFields(limits) }, { error: "must be a JSON object" });
}

/** The body of an image generation. */
export function imageGenerationBody(limits: RequestLimits) {
  return generationObject(limits)
    .check(checkStreaming)
    .meta({ examples: [generationExample] });
}

/** The body of a job: a generation's. That it cannot stream is said in other words. */
export function imageJobBody(limits: RequestLimits) {
  return generationObject(limits).meta({ examples: [generationExample] });
}

/** The form of an edit: image to image, or with transparency inpainting. */
export function imageEditBody(limits: RequestLimits) {
  const { prompt, strength } = requestFields(limits);
  return z
    .looseObject({
      image: uploadedFile().describe("PNG, JPEG or WebP. Without a mask, its transparent pixels are repainted."),
      mask: uploadedFile().nullish().describe("As large as the image; its transparent pixels are repainted."),
      prompt,
      strength: strength.nullish().describe("How far to leave the picture: 0.6 unless there is a mask, else 1."),
      ...drawingFields(limits),
      input_fidelity: oneOf(["high", "low"]).nullish().describe("Accepted; changes nothing."),
    })
    .check(checkStreaming);
}

/** The form of a variation: an edit that may do without words. */
export function imageVariationBody(limits: RequestLimits) {
  const { prompt, strength } = requestFields(limits);
  return z
    .looseObject({
      image: uploadedFile().describe("PNG, JPEG or WebP."),
      prompt: prompt.nullish(),
      strength: strength.nullish().describe("How far to leave the picture. Default 0.6."),
      ...drawingFields(limits),
    })
    .check(checkStreaming);
}

/** The form of an upscaling. */
export function imageUpscaleBody(limits: RequestLimits) {
  return z.looseObject({
    image: uploadedFile().describe("PNG, JPEG or WebP."),
    scale: oneOf(upscaleFactors).nullish().describe("Default 2."),
    model: requestFields(limits).model.nullish().describe("An upscaler. Default: `easel-upscale`."),
    ...outputFields(limits),
    user: label().nullish(),
  });
}

/** The headers of requests that may be sent again. */
export const repeatable = z.looseObject({
  "idempotency-key": z
    .string()
    .min(1, { error: must("have 1 to 255 characters") })
    .max(255, { error: must("have 1 to 255 characters") })
    .optional()
    .describe("The same request with the same key gets the same pictures, and is charged once."),
});

/** Any body that asks for drawing. */
export type DrawingBody = z.infer<z.ZodObject<ReturnType<typeof drawingFields>>> & {
  prompt?: string | null | undefined;
  image?: UploadedFile | undefined;
  mask?: UploadedFile | null | undefined;
  strength?: number | null | undefined;
};

export const errorObject = z
  .object({
    message: z.string(),
    type: z.string(),
    param: z.string().nullable(),
    code: z.string().nullable(),
  })
  .meta({ id: "Error" });

export const usageObject = z.object({
  input_tokens: z.number().int(),
  /** A token for each cell of 16 × 16 pixels that the model drew. */
  output_tokens: z.number().int(),
  total_tokens: z.number().int(),
  input_tokens_details: z.object({ text_tokens: z.number().int(), image_tokens: z.number().int() }),
});

export type Usage = z.infer<typeof usageObject>;

export const imageObject = z.object({
  b64_json: z.string().optional(),
  url: z.string().optional(),
  seed: z.number().int().optional(),
  size: z.string(),
  model: z.string().optional(),
  /** The size the model drew, when the picture was then enlarged or reduced. */
  drawn_size: z.string().optional(),
  upscaled_from: z.string().optional(),
  upscale_method: z.string().optional().describe("The upscaler's name."),
});

export type ImageObject = z.infer<typeof imageObject>;

export const imagesResponse = z
  .object({
    /** Unix time, in seconds. */
    created: z.number().int(),
    data: z.array(imageObject),
    size: z.string(),
    quality: z.string(),
    output_format: z.string(),
    background: z.literal(["opaque", "transparent"]),
    usage: usageObject.optional(),
    /** What the user should know: what was truncated, enlarged, ignored. */
    notices: z.array(z.string()).optional(),
  })
  .meta({ id: "Images" });

export type ImagesResponse = z.infer<typeof imagesResponse>;

/** What OpenAI does not tell of a model, and Easel does. Sizes in pixels. */
const modelDetails = z.object({
  license: z.string().nullable(),
  native_size: z.string().describe("Of a picture when none is asked for."),
  draws_any_size: z.boolean().describe("If not, it draws near its native size and the picture is enlarged or reduced."),
  min_side: z.number().int(),
  max_side: z.number().int(),
  side_multiple: z.number().int(),
  max_upscaled_side: z.number().int(),
  max_images: z.number().int(),
  default_steps: z.number().int(),
  max_steps: z.number().int(),
  default_guidance_scale: z.number(),
  default_max_sequence_length: z.number().int(),
});

export type ModelDetails = z.infer<typeof modelDetails>;

export const modelObject = z
  .object({
    id: z.string(),
    object: z.literal("model"),
    created: z.number().int(),
    owned_by: z.string(),
    ...modelDetails.shape,
  })
  .meta({ id: "Model" });

export const modelList = z.object({ object: z.literal("list"), data: z.array(modelObject) });

/** LiteLLM's model list, which Regolo's command line reads. */
export const modelInfoList = z.object({
  data: z.array(
    z.object({ model_name: z.string(), model_info: z.object({ mode: z.string(), ...modelDetails.shape }) }),
  ),
});

function opaqueBackground() {
  return z.literal(["auto", "opaque"], {
    error: (issue) =>
      issue.input === "transparent"
        ? 'cannot be "transparent": the models draw opaque pictures; use "opaque" or "auto"'
        : must('be "auto" or "opaque"')(issue),
  });
}

function label() {
  return z.string({ error: must("be a text") }).max(1000, { error: "must have at most 1000 characters" });
}
