/** Whole pictures against diffusers' FluxPipeline: same folder, prompt, seed and settings. */
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import { fixturesDir, psnr, readRgbImage } from "./oracle-fixtures.ts";
import { drawCase, expectOraclePictures, leastPsnr, pictureCases, type PictureCase } from "./support/picture-cases.ts";

describe.each(["flux-dev-tiny", "flux-schnell-tiny"])("a picture by %s", (model) => {
  let loading: Promise<FluxPipeline> | undefined;
  const pipeline = () => (loading ??= FluxPipeline.load({ modelDir: join(fixturesDir, model), precision: "fp32" }));
  afterAll(async () => (await loading)?.dispose());

  const draw = async (c: PictureCase) => await drawCase(await pipeline(), c);

  it.each(pictureCases.filter((c) => c.model === model))("is diffusers' picture: $name", async (c) => {
    await expectOraclePictures(await draw(c), c);
  });

  it("changes with the seed and with the prompt", async () => {
    const c = pictureCases.find((candidate) => candidate.model === model)!;
    const reference = (await readRgbImage(`pictures/${c.files[0]}`)).pixels;
    const otherSeed = await draw({ ...c, seed: c.seed + 1000, n: 1 });
    expect(psnr(otherSeed.images[0]!.pixels, reference)).toBeLessThan(25);
    const otherPrompt = await draw({ ...c, prompt: "something else entirely", n: 1 });
    expect(psnr(otherPrompt.images[0]!.pixels, reference)).toBeLessThan(leastPsnr);
  });

  it("comes with a notice when the prompt was cut", async () => {
    const c = pictureCases.find((candidate) => candidate.model === model)!;
    const { notices } = await draw({ ...c, prompt: "a white cat and a black dog, ".repeat(60), n: 1 });
    expect(notices.join(" ")).toContain("its end was ignored");
  });
});
