/** Steps that are spared: what comes out, and what is told. */
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import { fixturesDir, psnr } from "./oracle-fixtures.ts";

const pipeline = await FluxPipeline.load({ modelDir: join(fixturesDir, "flux-dev-tiny"), device: "cpu" });
afterAll(() => pipeline.dispose());

const draw = async (stepCache: number | undefined, more: { negativePrompt?: string } = {}) => {
  const size = { width: 64, height: 64 };
  const request = { prompt: "A white cat", ...size, seed: 3, numImages: 1, numInferenceSteps: 8, stepCache, ...more };
  const { images, notices } = await pipeline.generate(request);
  return { pixels: images[0]!.pixels, notice: notices.find((sentence) => sentence.includes("step cache")) };
};
const saved = (passes: number, all: number) =>
  `The step cache saved most of ${passes} of ${all} passes; without it the picture would be a little different.`;

describe("a step cache", () => {
  test("is off unless it is asked for, and 0 is off", async () => {
    const usual = await draw(undefined);
    expect(usual.notice).toBeUndefined();
    expect(await draw(0)).toEqual(usual);
  });

  test("whose threshold no step falls below draws the same picture, and says so", async () => {
    const { pixels, notice } = await draw(1e-9);
    // The parts compute what the whole computes, in kernels that may round otherwise.
    expect(psnr(pixels, (await draw(0)).pixels)).toBeGreaterThan(70);
    expect(notice).toBe(saved(0, 8));
  });

  test("whose threshold all steps fall below computes the first one alone", async () => {
    const { pixels, notice } = await draw(1);
    expect(notice).toBe(saved(7, 8));
    expect(pixels).not.toEqual((await draw(0)).pixels);
  });

  test("watches the prompt and the negative prompt apart", async () => {
    const { notice } = await draw(1, { negativePrompt: "a dog" });
    expect(notice).toBe(saved(14, 16));
  });

  test("spares less the lower its threshold", async () => {
    const counts: number[] = [];
    for (const threshold of [0.02, 0.1, 0.5]) {
      counts.push(Number(/most of (\d+)/.exec((await draw(threshold)).notice!)![1]));
    }
    expect(counts).toEqual(counts.toSorted((a, b) => a - b));
    expect(counts.at(-1)).toBeGreaterThan(counts[0]!);
  });
});
