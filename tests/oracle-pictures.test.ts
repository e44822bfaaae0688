/** Whole pictures against diffusers' FluxPipeline: same folder, prompt, seed and settings. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FluxPipeline, type GenerationResult } from "../src/pipelines/flux-pipeline.ts";
import { fixturesDir, psnr, readRgbImage } from "./oracle-fixtures.ts";

interface Case {
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

const cases = JSON.parse(readFileSync(join(fixturesDir, "pictures", "cases.json"), "utf8")) as Case[];

/** 45 dB: pictures that differ by rounding alone; another seed or prompt gives under 25 dB. */
const leastPsnr = 45;

describe.each(["flux-dev-tiny", "flux-schnell-tiny"])("a picture by %s", (model) => {
  let loading: Promise<FluxPipeline> | undefined;
  const pipeline = () => (loading ??= FluxPipeline.load({ modelDir: join(fixturesDir, model), precision: "fp32" }));
  afterAll(async () => (await loading)?.dispose());

  const draw = async (c: Case): Promise<GenerationResult> =>
    (await pipeline()).generate({
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

  it.each(cases.filter((c) => c.model === model))("is diffusers' picture: $name", async (c) => {
    const { images } = await draw(c);
    expect(images).toHaveLength(c.n);
    for (const [i, image] of images.entries()) {
      expect(psnr(image.pixels, (await readRgbImage(`pictures/${c.files[i]}`)).pixels)).toBeGreaterThanOrEqual(
        leastPsnr,
      );
      expect(image.seed).toBe(c.seed + i);
    }
  });

  it("changes with the seed and with the prompt", async () => {
    const c = cases.find((candidate) => candidate.model === model)!;
    const reference = (await readRgbImage(`pictures/${c.files[0]}`)).pixels;
    const otherSeed = await draw({ ...c, seed: c.seed + 1000, n: 1 });
    expect(psnr(otherSeed.images[0]!.pixels, reference)).toBeLessThan(25);
    const otherPrompt = await draw({ ...c, prompt: "something else entirely", n: 1 });
    expect(psnr(otherPrompt.images[0]!.pixels, reference)).toBeLessThan(leastPsnr);
  });

  it("comes with a notice when the prompt was cut", async () => {
    const c = cases.find((candidate) => candidate.model === model)!;
    const { notices } = await draw({ ...c, prompt: "a white cat and a black dog, ".repeat(60), n: 1 });
    expect(notices.join(" ")).toContain("its end was ignored");
  });
});
