/** What work costs, in pixels × denoising steps: the unit of budgets, of fairness and of the expected duration. */
import { type GenerationParams, passesPerStep } from "../pipelines/generation-plan.ts";
import { type CardedModel, readCardedModel } from "../pipelines/model-card.ts";
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

/** Of a model that cannot be read, FLUX.1-dev's settings, with the most steps: what a reservation has too much is given back when the work ends. */
const assumed = { card: { trueCfgScale: undefined }, defaults: { numInferenceSteps: 28 }, guidanceEmbeds: true };

function expectedWork(params: GenerationParams, modelDir: string): { steps: number; passes: number } {
  const model = readIfPossible(modelDir) ?? assumed;
  return { steps: params.numInferenceSteps ?? model.defaults.numInferenceSteps, passes: passesPerStep(params, model) };
}

function readIfPossible(modelDir: string): CardedModel | undefined {
  try {
    return readCardedModel(modelDir);
  } catch {
    // A single file has no configuration beside it; a folder that cannot be read is refused when it is loaded, with the reason.
    return undefined;
  }
}
