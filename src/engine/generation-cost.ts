/** What work costs, in pixels × denoising steps: the unit of budgets, of fairness and of the expected duration. */
import { readGenerationDefaults } from "../pipelines/model-card.ts";
import type { GenerationJob } from "./engine-messages.ts";
import type { PictureSize } from "./generation-request.ts";
import type { Enlarging } from "./upscaler-catalog.ts";

export interface GenerationCost {
  /** Of all pictures together. */
  pixelSteps: number;
  /** Of one step of one picture. */
  pixelsPerStep: number;
  /** Of these, what enlarging the finished pictures costs. */
  enlarging: number;
}

/** FLUX.1-dev's default, the largest: what a reservation has too much is given back when the work ends. */
const mostDefaultSteps = 28;

/** The expected cost: width × height × steps × pictures, twice that when every step is also taken for a negative prompt; and what `upscale` takes. */
export function generationCost({ params, pipeline, upscale }: GenerationJob): GenerationCost {
  const { width, height, numImages, negativePrompt, trueCfgScale = Infinity } = params;
  const steps = params.numInferenceSteps ?? defaultSteps(pipeline.modelDir);
  const passes = negativePrompt !== undefined && trueCfgScale > 1 ? 2 : 1;
  const pixelsPerStep = width * height * passes;
  const enlarging = upscale === undefined ? 0 : numImages * enlargingCost({ width, height }, upscale);
  return { pixelSteps: pixelsPerStep * steps * numImages + enlarging, pixelsPerStep, enlarging };
}

/** Pixel-steps of enlarging a picture: so many steps, by the upscaler's size, for each pixel of the result. */
export function enlargingCost({ width, height }: PictureSize, { factor, upscaler }: Enlarging): number {
  return width * height * factor ** 2 * upscaler.stepsPerPixel;
}

function defaultSteps(modelDir: string): number {
  try {
    return readGenerationDefaults(modelDir).numInferenceSteps;
  } catch {
    // A model that cannot be read is refused when it is loaded, with the reason.
    return mostDefaultSteps;
  }
}
