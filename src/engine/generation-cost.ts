/** What work costs, in pixels × denoising steps: the unit of budgets, of fairness and of the expected duration. */
import { type GenerationParams, passesPerStep } from "../pipelines/generation-plan.ts";
import { readCardedModel } from "../pipelines/model-card.ts";
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

/** The expected cost: width × height × steps × pictures, twice that when every step takes two passes; and what `upscale` takes. */
export function generationCost({
  params,
  pipeline,
  upscale,
}: Pick<GenerationJob, "params" | "pipeline" | "upscale">): GenerationCost {
  const { width, height, numImages } = params;
  const { steps, passes } = expectedWork(params, pipeline.modelDir);
  const pixelsPerStep = width * height * passes;
  const enlarging = upscale === undefined ? 0 : numImages * enlargingCost({ width, height }, upscale);
  return { pixelSteps: pixelsPerStep * steps * numImages + enlarging, pixelsPerStep, enlarging };
}

/** Pixel-steps of enlarging a picture: so many steps, by the upscaler's size, for each pixel of the result. */
export function enlargingCost({ width, height }: PictureSize, { factor, upscaler }: Enlarging): number {
  return width * height * factor ** 2 * upscaler.stepsPerPixel;
}

/** FLUX.1-dev's, the largest default of steps: what a reservation has too much is given back when the work ends. */
const mostDefaultSteps = 28;

function expectedWork(params: GenerationParams, modelDir: string): { steps: number; passes: number } {
  const { numInferenceSteps, negativePrompt, trueCfgScale = Infinity } = params;
  try {
    const model = readCardedModel(modelDir);
    return { steps: numInferenceSteps ?? model.defaults.numInferenceSteps, passes: passesPerStep(params, model) };
  } catch {
    // A single file has no configuration to read; a folder that cannot be read is refused when it is loaded, with the reason.
    return {
      steps: numInferenceSteps ?? mostDefaultSteps,
      passes: negativePrompt !== undefined && trueCfgScale > 1 ? 2 : 1,
    };
  }
}
