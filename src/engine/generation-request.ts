/**
 * What may be asked for: one schema per field, used by the HTTP routes (under the wire's names) and by the command line
 * (under the flags' names), so that both accept the same values and refuse the others in the same words.
 */
import { z } from "zod";
import { EaselError } from "../errors.ts";
import { type ImageFormat, imageFormats } from "../images/metadata.ts";
import { type UpscaleFactor, upscaleFactors } from "../images/upscale.ts";
import type { GenerationParams } from "../pipelines/generation-plan.ts";
import type { LoraChoice } from "./lora-catalog.ts";

export interface PictureSize {
  width: number;
  height: number;
}

/** How finished pictures are written. */
export interface OutputOptions {
  /** Default "png". */
  format?: ImageFormat | undefined;
  /** 0 to 100, for JPEG and WebP. Default 100. */
  quality?: number | undefined;
  /** Whether the file tells the prompt among what it says about its making. Default true. */
  embedPrompt?: boolean | undefined;
}

/** How much work to put into a picture: the steps taken, as a multiple of the model's own number of steps. */
export const qualityFactors = { auto: 1, standard: 1, medium: 1, low: 0.5, high: 1.5, hd: 1.5 } as const;
export type Quality = keyof typeof qualityFactors;

/**
 * What to draw with which model. Omitted values take the model's defaults; an omitted seed is drawn at random. With a
 * picture to start from, an omitted size is that picture's, and an omitted strength is 1 with a mask and 0.6 without.
 */
export interface GenerationRequest extends Omit<GenerationParams, "width" | "height" | "seed" | "numImages" | "loras"> {
  /** A name of the model catalog; never a path. */
  model: string;
  size?: PictureSize | undefined;
  seed?: number | undefined;
  numImages?: number | undefined;
  /** Adapters for the model, applied together; names of the LoRA catalog, never paths. */
  loras?: readonly LoraChoice[] | undefined;
  /** Decides on the steps unless `numInferenceSteps` does. */
  quality?: Quality | undefined;
  /** Enlarges the finished picture. */
  upscale?: UpscaleFactor | undefined;
  /** What enlarges it: a name of the upscaler catalog. Default: the built-in one. */
  upscaler?: string | undefined;
  /** Pictures of each image while it is drawn. */
  previews?: number | undefined;
  output?: OutputOptions | undefined;
}

export interface RequestLimits {
  /** Images per request. */
  maxImages: number;
  /** Bounds of width and height, in pixels. */
  minSide: number;
  maxSide: number;
}

const emptyPrompt = "must not be empty; describe the picture in words";
export const maxPromptLength = 32_000;
export const maxSteps = 150;
/** In pixels: what pictures are made of in FLUX. */
export const sideMultiple = 16;

/**
 * Schemas of the fields of a request. Their messages continue a sentence that begins with the field's name;
 * `invalidRequest` puts the two together.
 */
export function requestFields(limits: RequestLimits) {
  return {
    prompt: text()
      .min(1, { error: emptyPrompt })
      .refine((value) => value.trim() !== "", { error: emptyPrompt }),
    /** A model draws something without words too; whoever types "" on a command line means it. */
    promptOrEmpty: text(),
    negativePrompt: text(),
    model: z.string({ error: must("be the name of a model") }).min(1, { error: must("be the name of a model") }),
    size: size(limits),
    numImages: wholeNumber(1, limits.maxImages),
    seed: wholeNumber(0, Number.MAX_SAFE_INTEGER),
    numInferenceSteps: wholeNumber(1, maxSteps),
    guidanceScale: number(0, 100),
    trueCfgScale: number(0, 100),
    maxSequenceLength: wholeNumber(1, 512),
    stepCache: number(0, 1),
    loras: loras(),
    quality: oneOf(Object.keys(qualityFactors) as [Quality, ...Quality[]]),
    strength: number(0, 1).gt(0, { error: "must be above 0; 0 would change nothing" }),
    upscale: oneOf(upscaleFactors),
    previews: wholeNumber(0, 3),
    outputFormat: oneOf(imageFormats),
    outputQuality: wholeNumber(0, 100),
    embedPrompt: z.boolean({ error: must("be true or false") }),
  };
}

/** The first issue of a failed parse as one sentence that begins with the field's name. */
export function invalidRequest(issues: readonly { path: readonly PropertyKey[]; message: string }[]): EaselError {
  const [issue] = issues;
  const param = issue?.path.map(String).join(".") || undefined;
  return new EaselError("invalid_request", `${param ?? "The request"} ${issue?.message ?? "is invalid"}.`, { param });
}

/** A message for a schema: what the value must be, and what it was instead. */
export function must(requirement: string): (issue: { input?: unknown }) => string {
  return ({ input }) => (input === undefined ? "is required" : `must ${requirement}, not ${show(input)}`);
}

const maxLoras = 8;
const maxLoraScale = 10;

/** "NAME", "NAME:SCALE" or {name, scale}; one or a list. */
function loras() {
  const error = must('be a name, "NAME:SCALE", {"name", "scale"}, or a list of these');
  const scale = number(-maxLoraScale, maxLoraScale);
  const written = z
    .string({ error })
    .min(1, { error })
    .transform(parseLora)
    .pipe(z.object({ name: z.string(), scale }))
    // A transformation's input would be left out of the API's description.
    .meta({ type: "string" });
  const entry = z.union([written, z.strictObject({ name: z.string().min(1), scale: scale.optional() })], { error });
  const list = z.array(entry, { error }).max(maxLoras, { error: `must be at most ${maxLoras}` });
  return z.union([list, entry.transform((one) => [one])], { error });
}

/** "NAME:SCALE"; without a scale it is 1. */
export function parseLora(choice: string): { name: string; scale: number } {
  const [, name = choice, scale = "1"] = /^(.+):(-?\d+(?:\.\d+)?)$/s.exec(choice) ?? [];
  return { name, scale: Number(scale) };
}

/** A schema for one of a few values. */
export function oneOf<const T extends string | number | boolean>(values: readonly T[]) {
  const listed = values.map((value) => JSON.stringify(value));
  const last = listed.pop();
  const requirement = listed.length === 0 ? `be ${last}` : `be ${listed.join(", ")} or ${last}`;
  return z.literal(values, { error: must(requirement) });
}

function text() {
  return z
    .string({ error: must("be a text") })
    .max(maxPromptLength, {
      error: ({ input }) => `must have at most ${maxPromptLength} characters, but has ${String(input).length}`,
    })
    .refine((value) => !value.includes("\0"), { error: "must not contain null bytes" })
    .meta({ pattern: String.raw`^[^\u0000]*$` })
    .refine((value) => value.isWellFormed(), { error: "must be well-formed Unicode, without lone surrogates" });
}

function wholeNumber(min: number, max: number) {
  const error = must(`be a whole number from ${min} to ${max}`);
  return z.number({ error }).int({ error }).min(min, { error }).max(max, { error });
}

function number(min: number, max: number) {
  const error = must(`be a number from ${min} to ${max}`);
  return z.number({ error }).min(min, { error }).max(max, { error });
}

/** "512x512" as width and height; "auto" as undefined, which stands for the model's own size. */
function size({ minSide, maxSide }: RequestLimits) {
  const error = must('be "auto" or WIDTHxHEIGHT in pixels, such as 512x512');
  const written = z.string({ error }).regex(/^(auto|[0-9]{1,6}x[0-9]{1,6})$/, { error });
  return written.transform((value, context): PictureSize | undefined => {
    if (value === "auto") return undefined;
    const refuse = (message: string) => {
      context.issues.push({ code: "custom", input: value, message });
      return z.NEVER;
    };
    const [width = 0, height = 0] = value.split("x").map(Number);
    if (Math.min(width, height) < minSide || Math.max(width, height) > maxSide) {
      return refuse(`must have sides from ${minSide} to ${maxSide} pixels, not ${width}x${height}`);
    }
    if (width % sideMultiple !== 0 || height % sideMultiple !== 0) {
      const nearest = [width, height].map((side) =>
        Math.min(maxSide, Math.max(minSide, Math.round(side / sideMultiple) * sideMultiple)),
      );
      return refuse(
        `must have sides that are multiples of ${sideMultiple}, such as ${nearest.join("x")}, not ${width}x${height}`,
      );
    }
    return { width, height };
  });
}

function show(value: unknown): string {
  const json = JSON.stringify(value) ?? typeof value;
  return json.length > 60 ? `${json.slice(0, 57)}...` : json;
}
