/** Image to image and inpainting against diffusers' FluxImg2ImgPipeline and FluxInpaintPipeline. */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import type { RgbImage } from "../src/images/rgb-image.ts";
import { FluxPipeline, type Preview } from "../src/pipelines/flux-pipeline.ts";
import type { GenerationParams } from "../src/pipelines/generation-plan.ts";
import { fixturesDir, psnr, readGrayImage, readRgbImage } from "./oracle-fixtures.ts";

interface Case {
  model: string;
  name: string;
  file: string;
  prompt: string;
  width: number;
  height: number;
  steps: number;
  guidance: number;
  max_sequence_length: number;
  seed: number;
  strength: number;
  mask: boolean;
}

const cases = JSON.parse(readFileSync(join(fixturesDir, "conditioned", "cases.json"), "utf8")) as Case[];

const readMask = () => readGrayImage("conditioned/mask.png");

/** 45 dB: pictures that differ by rounding alone. */
const leastPsnr = 45;

describe.each(["flux-dev-tiny", "flux-schnell-tiny"])("a picture from a picture by %s", (model) => {
  let loading: Promise<FluxPipeline> | undefined;
  const pipeline = () => (loading ??= FluxPipeline.load({ modelDir: join(fixturesDir, model) }));
  afterAll(async () => (await loading)?.dispose());

  const original = () => readRgbImage(`pictures/${model}/plain-0.png`);
  const paramsOf = async (c: Case): Promise<GenerationParams> => ({
    prompt: c.prompt,
    width: c.width,
    height: c.height,
    numInferenceSteps: c.steps,
    guidanceScale: c.guidance,
    maxSequenceLength: c.max_sequence_length,
    seed: c.seed,
    numImages: 1,
    condition: { image: await original(), strength: c.strength, ...(c.mask ? { mask: await readMask() } : {}) },
  });

  it.each(cases.filter((c) => c.model === model))("is diffusers' picture: $name", async (c) => {
    const { images } = await (await pipeline()).generate(await paramsOf(c));
    const repainted = c.mask ? (await readMask()).pixels : undefined;
    const expected = await readRgbImage(`conditioned/${c.file}`);
    const [inside, outside] = [pick(images[0]!, repainted, true), pick(images[0]!, repainted, false)];
    expect(psnr(inside, pick(expected, repainted, true))).toBeGreaterThanOrEqual(leastPsnr);
    // diffusers lets the autoencoder touch what is outside the mask; here it stays as it was.
    expect(outside).toEqual(pick(await original(), repainted, false));
  });

  it("takes only its share of the steps, and shows previews along the way", async () => {
    const c = cases.find((candidate) => candidate.model === model && candidate.name === "weak")!;
    const steps: number[] = [];
    const previews: Preview[] = [];
    await (
      await pipeline()
    ).generate(await paramsOf(c), {
      onProgress: (progress) => steps.push(progress.step),
      previews: 2,
      onPreview: (preview) => previews.push(preview),
    });
    expect(steps).toEqual([1, 2, 3]);
    expect(previews).toMatchObject([
      { imageIndex: 0, previewIndex: 0, width: 64, height: 64 },
      { imageIndex: 0, previewIndex: 1, width: 64, height: 64 },
    ]);
    expect(psnr(previews[1]!.pixels, previews[0]!.pixels)).toBeLessThan(60);
  });

  it.each([0, -1, 1.01, Number.NaN])("refuses a strength of %s", async (strength) => {
    const params = await paramsOf(cases.find((candidate) => candidate.model === model)!);
    const drawing = (await pipeline()).generate({ ...params, condition: { ...params.condition!, strength } });
    await expect(drawing).rejects.toMatchObject({ code: "invalid_request", param: "strength" });
  });
});

/** The pixels inside (or outside) the mask; without one, all are inside. */
function pick({ pixels }: RgbImage, mask: Uint8Array | undefined, inside: boolean): Uint8Array {
  return new Uint8Array(pixels).filter((_, i) => (mask === undefined || mask[Math.trunc(i / 3)]! >= 128) === inside);
}
