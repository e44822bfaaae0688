/** Pictures with LoRAs against diffusers' `load_lora_weights` and `fuse_lora`. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import type { GenerationParams } from "../src/pipelines/generation-plan.ts";
import { fixturesDir, psnr, readRgbImage } from "./oracle-fixtures.ts";

describe("a picture with LoRAs", () => {
  let pipeline: FluxPipeline;
  beforeAll(async () => {
    pipeline = await FluxPipeline.load({ modelDir: join(fixturesDir, "flux-dev-tiny") });
  });
  afterAll(() => pipeline.dispose());

  it("is diffusers' picture, comes and goes with them, and stays as it was without", async () => {
    const recorded = JSON.parse(readFileSync(join(fixturesDir, "formats", "lora-both.json"), "utf8")) as {
      prompt: string;
      width: number;
      height: number;
      steps: number;
      guidance: number;
      max_sequence_length: number;
      seed: number;
    };
    const params: GenerationParams = {
      prompt: recorded.prompt,
      width: recorded.width,
      height: recorded.height,
      numInferenceSteps: recorded.steps,
      guidanceScale: recorded.guidance,
      maxSequenceLength: recorded.max_sequence_length,
      seed: recorded.seed,
      numImages: 1,
    };
    const loras = [
      { file: join(fixturesDir, "formats", "lora-diffusers.safetensors"), scale: 0.7 },
      { file: join(fixturesDir, "formats", "lora-kohya.safetensors"), scale: -0.5 },
    ];
    const draw = async (extra: Partial<GenerationParams> = {}) =>
      (await pipeline.generate({ ...params, ...extra })).images[0]!.pixels;

    const plain = await draw();
    const adapted = await draw({ loras });
    const expected = (await readRgbImage("formats/lora-both.png")).pixels;
    expect(psnr(adapted, expected)).toBeGreaterThanOrEqual(45);
    expect(psnr(plain, expected)).toBeLessThan(25);
    expect(await draw()).toEqual(plain);
  });

  it("is refused when a LoRA was made for another model", async () => {
    const other = await FluxPipeline.load({ modelDir: join(fixturesDir, "flux-schnell-tiny") });
    const file = join(fixturesDir, "formats", "lora-diffusers.safetensors");
    const params = { prompt: "a cat", width: 64, height: 64, seed: 1, numImages: 1, numInferenceSteps: 1 };
    await expect(other.generate({ ...params, loras: [{ file, scale: 1 }] })).rejects.toMatchObject({
      code: "weights_invalid",
    });
    expect((await other.generate(params)).images).toHaveLength(1);
    await other.dispose();
  });
});
