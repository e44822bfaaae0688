/** What a picture's file says about its making: for people and other programs, and enough to draw it again. */
import { createHash } from "node:crypto";
import { z } from "zod";
import { EaselError } from "../errors.ts";
import { imageFormats, type PictureMetadata } from "../images/metadata.ts";
import type { GrayImage, RgbImage } from "../images/rgb-image.ts";
import { upscaleFactors } from "../images/upscale.ts";
import { version } from "../version.ts";
import type { GenerationJob, JobResult } from "./engine-messages.ts";
import type { PictureSize } from "./generation-request.ts";
import { loraName } from "./lora-catalog.ts";

const whole = z.number().int().nonnegative();
const sizeText = z.string().regex(/^[1-9]\d{0,4}x[1-9]\d{0,4}$/);
const sha256 = z.string().regex(/^[0-9a-f]{64}$/);

/** Easel's record in a picture's file: the request's parameters under the wire's names, every gap filled. */
export const generationRecord = z.object({
  software: z.string(),
  model: z.string(),
  /** Left out when it was not to be told; the negative prompt then too. */
  prompt: z.string().optional(),
  negative_prompt: z.string().optional(),
  seed: whole,
  /** Before it was upscaled. */
  size: sizeText,
  drawn_size: sizeText,
  steps: whole,
  guidance_scale: z.number(),
  true_cfg_scale: z.number(),
  max_sequence_length: whole,
  /** Where one was used. */
  step_cache: z.number().optional(),
  lora: z.array(z.object({ name: z.string(), scale: z.number() })).optional(),
  upscale: z.literal(upscaleFactors).optional(),
  /** The upscaler's name; files from before there were any were enlarged by interpolation. */
  upscale_method: z.string().optional(),
  /** Image to image: how far the picture was left, and the digests of the pixels it started from. */
  strength: z.number().optional(),
  image_sha256: sha256.optional(),
  mask_sha256: sha256.optional(),
  output_format: z.enum(imageFormats),
  output_compression: whole.optional(),
  device: z.string(),
  precision: z.string(),
});

export type GenerationRecord = z.infer<typeof generationRecord>;

/** The record of the picture that `job` drew with `seed`. */
export function recordOf(job: GenerationJob, seed: number, drawn: PictureSize, result: Settings): GenerationRecord {
  const { params, output } = job;
  const { condition } = params;
  return {
    software: `Easel ${version}`,
    model: job.model,
    ...(output.embedPrompt === false ? {} : { prompt: params.prompt, negative_prompt: params.negativePrompt }),
    seed,
    size: `${params.width}x${params.height}`,
    drawn_size: `${drawn.width}x${drawn.height}`,
    steps: result.numInferenceSteps,
    guidance_scale: result.guidanceScale,
    true_cfg_scale: result.trueCfgScale,
    max_sequence_length: result.maxSequenceLength,
    step_cache: params.stepCache || undefined,
    lora: params.loras?.length ? params.loras.map(({ file, scale }) => ({ name: loraName(file), scale })) : undefined,
    upscale: job.upscale?.factor,
    upscale_method: job.upscale?.upscaler.name,
    strength: condition?.strength,
    image_sha256: condition && pixelDigest(condition.image),
    mask_sha256: condition?.mask && pixelDigest(condition.mask),
    output_format: output.format ?? "png",
    output_compression: output.quality,
    device: result.device,
    precision: result.precision,
  };
}

type Settings = Pick<
  JobResult,
  "numInferenceSteps" | "guidanceScale" | "trueCfgScale" | "maxSequenceLength" | "device" | "precision"
>;

/** The record as a file carries it. */
export function pictureMetadata(record: GenerationRecord): PictureMetadata {
  return {
    parameters: parametersText(record),
    record: JSON.stringify(record),
    sourceType: record.mask_sha256 === undefined ? "trainedAlgorithmicMedia" : "compositeWithTrainedAlgorithmicMedia",
  };
}

/** The record in a file's metadata. Throws `invalid_request` when there is none, or one that makes no sense. */
export function parseRecord({ record }: PictureMetadata, file: string): GenerationRecord {
  if (record === undefined) {
    throw new EaselError("invalid_request", `${file} has no record of its making; only Easel's own pictures have one.`);
  }
  const parsed = generationRecord.safeParse(parseJson(record));
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw new EaselError(
      "invalid_request",
      `${file} has a record that cannot be read (${issue?.path.join(".") || "it is no JSON object"}).`,
    );
  }
  return parsed.data;
}

/** Tells apart pictures, and masks, of different size or content. */
export function pixelDigest({ width, height, pixels }: RgbImage | GrayImage): string {
  return createHash("sha256").update(`${width}x${height}\n`).update(pixels).digest("hex");
}

/** The text of Stable Diffusion's web UI, which many programs read: prompt, negative prompt, one line of settings. */
function parametersText(record: GenerationRecord): string {
  const settings = {
    Steps: record.steps,
    Sampler: "Euler",
    "CFG scale": record.true_cfg_scale,
    "Distilled CFG Scale": record.guidance_scale,
    Seed: record.seed,
    Size: record.size,
    Model: quoted(record.model),
    Lora: record.lora && quoted(record.lora.map(({ name, scale }) => `${name}:${scale}`).join(", ")),
    "Denoising strength": record.strength,
    "Hires upscale": record.upscale,
    "Hires upscaler": record.upscale_method && quoted(record.upscale_method),
    Version: record.software,
  };
  const told = Object.entries(settings).filter(([, value]) => value !== undefined);
  return [
    ...(record.prompt === undefined ? [] : [record.prompt]),
    ...(record.negative_prompt === undefined ? [] : [`Negative prompt: ${record.negative_prompt}`]),
    told.map(([name, value]) => `${name}: ${value}`).join(", "),
  ].join("\n");
}

/** As the web UI does it: a value with its separators in quotes. */
function quoted(value: string): string {
  return /[,:\n"]/.test(value) ? JSON.stringify(value) : value;
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}
