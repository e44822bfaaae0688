/** From what was asked for to what the engine process does: every gap of a request filled, every size decided. */
import { randomInt } from "node:crypto";
import { InvalidRequestError } from "../errors.ts";
import { resize, resizeGray } from "../images/resize.ts";
import type { FluxPipelineOptions } from "../pipelines/flux-pipeline.ts";
import { defaultStrength, type ImageCondition } from "../pipelines/image-conditioning.ts";
import { readGenerationDefaults, readModelCard } from "../pipelines/model-card.ts";
import type { GenerationJob } from "./engine-messages.ts";
import {
  type GenerationRequest,
  maxSteps,
  type PictureSize,
  type Quality,
  qualityFactors,
  sideMultiple,
} from "./generation-request.ts";
import type { LoraCatalog } from "./lora-catalog.ts";
import type { CatalogModel } from "./model-catalog.ts";
import type { UpscalerCatalog } from "./upscaler-catalog.ts";

/** Of a drawn picture, in pixels. */
export interface SideLimits {
  minSide: number;
  maxSide: number;
}

export interface SizeLimits extends SideLimits {
  /** Of a picture that was drawn and then enlarged. */
  maxUpscaledSide: number;
}

/** What all requests to an engine have in common. */
export interface Planning {
  pipeline: Omit<FluxPipelineOptions, "modelDir">;
  limits: SizeLimits;
  loraCatalog: LoraCatalog;
  upscalers: UpscalerCatalog;
}

/**
 * The job of a request: the model's native size or the given picture's, one image, a random seed, the steps of the
 * quality; a picture to start from is brought to the size of the answer.
 *
 * @throws InvalidRequestError when the parts of the request do not go together.
 * @throws ModelInvalidError
 */
export async function planJob(
  request: GenerationRequest,
  model: CatalogModel,
  { pipeline, limits, loraCatalog, upscalers }: Planning,
): Promise<GenerationJob> {
  const notices: string[] = [];
  const fitted = { ...request, ...(await fitCondition(request, model, limits, notices)) };
  const {
    model: _,
    size,
    numImages = 1,
    quality,
    upscale,
    upscaler,
    previews = 0,
    output = {},
    loras,
    ...rest
  } = fitted;
  const { width, height } = size;
  if (upscale !== undefined && Math.max(width, height) * upscale > limits.maxUpscaledSide) {
    throw new InvalidRequestError(
      "upscale",
      `upscale would make ${width * upscale}x${height * upscale} of ${width}x${height}, but the largest side is ` +
        `${limits.maxUpscaledSide}.`,
    );
  }
  const params = {
    ...rest,
    width,
    height,
    numImages,
    seed: seedOf(request, numImages),
    numInferenceSteps: rest.numInferenceSteps ?? stepsOf(quality, model),
    loras: await loraCatalog.resolve(loras ?? []),
  };
  return {
    pipeline: { ...pipeline, modelDir: model.folder },
    model: model.name,
    params,
    upscale: upscale && { factor: upscale, upscaler: await upscalers.resolve(upscaler, upscale) },
    previews,
    output,
    notices,
  };
}

function seedOf({ seed = randomSeed() }: GenerationRequest, numImages: number): number {
  if (seed > Number.MAX_SAFE_INTEGER - (numImages - 1)) {
    throw new InvalidRequestError(
      "seed",
      `seed must be at most ${Number.MAX_SAFE_INTEGER} for the last image too; image i of n takes seed + i.`,
    );
  }
  return seed;
}

/** 32 bits: all that a Mersenne Twister takes as its seed, and short enough to be typed again. */
function randomSeed(): number {
  return randomInt(2 ** 32);
}

/** Undefined leaves the choice to the model. */
function stepsOf(quality: Quality = "auto", model: CatalogModel): number | undefined {
  const factor = qualityFactors[quality];
  if (factor === 1) return undefined;
  const steps = Math.round(readGenerationDefaults(model.folder).numInferenceSteps * factor);
  return Math.min(maxSteps, Math.max(1, steps));
}

/** The size of a picture when none is asked for: the model's own, within the limits. */
export function defaultSize(model: CatalogModel, limits: SideLimits): PictureSize {
  return sizeLike(model.nativeSize, model, limits);
}

/**
 * The size for a picture made from `image`: its own, or less where that exceeds the limits or the area at which the model
 * draws well. A model that draws one size alone takes as long for any, so only the limits count there.
 */
function sizeLike(image: PictureSize, model: CatalogModel, { minSide, maxSide }: SideLimits): PictureSize {
  const { nativeSize } = model;
  const drawsAnySize = readModelCard(model.folder).nativeSize === undefined;
  const maxArea = drawsAnySize ? nativeSize.width * nativeSize.height : Infinity;
  const scale = Math.min(
    1,
    maxSide / Math.max(image.width, image.height),
    Math.sqrt(maxArea / (image.width * image.height)),
  );
  const [least, most] = [
    Math.ceil(minSide / sideMultiple) * sideMultiple,
    Math.floor(maxSide / sideMultiple) * sideMultiple,
  ];
  const side = (length: number) =>
    Math.min(most, Math.max(least, Math.round((length * scale) / sideMultiple) * sideMultiple));
  return { width: side(image.width), height: side(image.height) };
}

/**
 * The size of the answer, decided, and the picture to start from and its mask at that size. `notices` gets what the user must
 * be told.
 */
export async function fitCondition(
  { size, condition }: GenerationRequest,
  model: CatalogModel,
  limits: SizeLimits,
  notices: string[],
): Promise<{ size: PictureSize; condition: ImageCondition | undefined }> {
  if (condition === undefined) return { size: size ?? defaultSize(model, limits), condition };
  const { image, mask } = condition;
  const { width, height } = size ?? sizeLike(image, model, limits);
  if (image.width !== width || image.height !== height) {
    notices.push(`The given picture, ${image.width}x${image.height}, was fitted to ${width}x${height}.`);
  }
  const fitted = {
    image: await resize(image, width, height),
    mask: mask && (await resizeGray(mask, width, height)),
    // What a mask frees is to be painted anew: nothing of what was there should shine through.
    strength: condition.strength ?? (mask === undefined ? defaultStrength : 1),
  };
  return { size: { width, height }, condition: fitted };
}
