/** What a generation costs, in pixels × denoising steps: the unit of budgets, of fairness and of the expected duration. */
import { readGenerationDefaults } from "../pipelines/model-card.ts";
import type { GenerationJob } from "./engine-messages.ts";

export interface GenerationCost {
  /** Of all pictures together. */
  pixelSteps: number;
  /** Of one step of one picture. */
  pixelsPerStep: number;
}

/** FLUX.1-dev's default, the largest: what a reservation has too much is given back when the work ends. */
const mostDefaultSteps = 28;

/** The expected cost: width × height × steps × pictures, twice that when every step is also taken for a negative prompt. */
export function generationCost({ params, pipeline }: GenerationJob): GenerationCost {
  const { width, height, numImages, negativePrompt, trueCfgScale = Infinity } = params;
  const steps = params.numInferenceSteps ?? defaultSteps(pipeline.modelDir);
  const passes = negativePrompt !== undefined && trueCfgScale > 1 ? 2 : 1;
  const pixelsPerStep = width * height * passes;
  return { pixelSteps: pixelsPerStep * steps * numImages, pixelsPerStep };
}

function defaultSteps(modelDir: string): number {
  try {
    return readGenerationDefaults(modelDir).numInferenceSteps;
  } catch {
    // A model that cannot be read is refused when it is loaded, with the reason.
    return mostDefaultSteps;
  }
}
