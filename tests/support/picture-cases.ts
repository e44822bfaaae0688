/** The pictures that diffusers' FluxPipeline drew with the tiny models, and how to draw them again. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect } from "vitest";
import type { FluxPipeline, GenerationResult } from "../../src/pipelines/flux-pipeline.ts";
import { fixturesDir, psnr, readRgbImage } from "../oracle-fixtures.ts";

export interface PictureCase {
  model: string;
  name: string;
  files: string[];
  prompt: string;
  negative_prompt: string | null;
  width: number;
  height: number;
  steps: number;
  guidance: number;
  true_cfg_scale: number;
  max_sequence_length: number;
  seed: number;
  n: number;
}

export const pictureCases = JSON.parse(
  readFileSync(join(fixturesDir, "pictures", "cases.json"), "utf8"),
) as PictureCase[];

/** 45 dB: pictures that differ by rounding alone; another seed or prompt gives under 25 dB. */
export const leastPsnr = 45;

export async function drawCase(pipeline: FluxPipeline, c: PictureCase): Promise<GenerationResult> {
  return await pipeline.generate({
    prompt: c.prompt,
    negativePrompt: c.negative_prompt ?? undefined,
    width: c.width,
    height: c.height,
    numInferenceSteps: c.steps,
    guidanceScale: c.guidance,
    trueCfgScale: c.true_cfg_scale,
    seed: c.seed,
    numImages: c.n,
    maxSequenceLength: c.max_sequence_length,
  });
}

/** Compares the pictures of a case with diffusers'. */
export async function expectOraclePictures({ images }: GenerationResult, c: PictureCase): Promise<void> {
  expect(images).toHaveLength(c.n);
  for (const [i, image] of images.entries()) {
    const { pixels } = await readRgbImage(`pictures/${c.files[i]}`);
    expect(psnr(image.pixels, pixels)).toBeGreaterThanOrEqual(leastPsnr);
    expect(image.seed).toBe(c.seed + i);
  }
}
