/** What a picture costs in budgets: its pixels times what the transformer really does. */
import { join } from "node:path";
import { describe, expect, test } from "vitest";
import { generationCost } from "../src/engine/generation-cost.ts";
import type { GenerationParams } from "../src/pipelines/generation-plan.ts";
import { fixturesDir } from "./oracle-fixtures.ts";

const builtIn = join(import.meta.dirname, "../models/easel-sketch");
const published = join(fixturesDir, "flux-dev-tiny");

/** Passes of the transformer for one picture of 64 × 64 pixels. */
function passes(modelDir: string, params: Partial<GenerationParams> = {}): number {
  const picture = { prompt: "a cat", width: 64, height: 64, seed: 1, numImages: 1, numInferenceSteps: 10, ...params };
  return generationCost({ params: picture, pipeline: { modelDir }, upscale: undefined }).pixelSteps / 64 ** 2;
}

describe("the cost of a picture", () => {
  test("is one pass of the transformer a step, two with a negative prompt", () => {
    expect(passes(published)).toBe(10);
    expect(passes(published, { negativePrompt: "a dog" })).toBe(20);
    expect(passes(published, { negativePrompt: "a dog", trueCfgScale: 1 })).toBe(10);
    expect(passes(published, { trueCfgScale: 3 })).toBe(10);
  });

  test("is two passes a step with the built-in model, whose card asks for classifier-free guidance, unless a request does without", () => {
    expect(passes(builtIn)).toBe(20);
    expect(passes(builtIn, { negativePrompt: "a dog" })).toBe(20);
    expect(passes(builtIn, { guidanceScale: 1 })).toBe(10);
  });

  test("takes the model's own number of steps where none is asked for, and the most that any has where it cannot be read", () => {
    expect(passes(builtIn, { numInferenceSteps: undefined })).toBe(2 * 20);
    expect(passes("nowhere", { numInferenceSteps: undefined })).toBe(28);
    expect(passes("nowhere", { negativePrompt: "a dog" })).toBe(20);
  });
});
