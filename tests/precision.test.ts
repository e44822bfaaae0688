/** What int8 and int4 cost, on the tiny pipelines and on the built-in model's real weights. */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { FluxPipeline, type FluxPipelineOptions } from "../src/pipelines/flux-pipeline.ts";
import { fixturesDir, psnr } from "./oracle-fixtures.ts";

let cacheDir: string;
beforeAll(() => (cacheDir = mkdtempSync(join(tmpdir(), "easel-precision-"))));
afterAll(() => rmSync(cacheDir, { recursive: true }));

async function draw(options: FluxPipelineOptions, side: number): Promise<Uint8Array> {
  const pipeline = await FluxPipeline.load(options);
  const { images } = await pipeline.generate({
    prompt: "A white cat",
    width: side,
    height: side,
    seed: 1,
    numImages: 1,
  });
  await pipeline.dispose();
  return images[0]!.pixels;
}

describe("int4", () => {
  it.each(["flux-dev-tiny", "flux-schnell-tiny"])("draws the likeness of %s's picture in fp32", async (name) => {
    const modelDir = join(fixturesDir, name);
    const exact = await draw({ modelDir }, 64);
    const quantized = await draw({ modelDir, precision: "int4", cacheDir }, 64);
    expect(psnr(quantized, exact)).toBeGreaterThan(18); // the picture of another seed gives less than 10 dB
    expect(quantized).not.toEqual(exact);
  });

  it("draws what the built-in model draws", async () => {
    const modelDir = join(import.meta.dirname, "../models/easel-sketch");
    const exact = await draw({ modelDir }, 256);
    const quantized = await draw({ modelDir, precision: "int4", cacheDir }, 256);
    expect(psnr(quantized, exact)).toBeGreaterThan(30); // measured 34 to 36 dB
  });
});

describe("int8", () => {
  // Random weights exaggerate rounding: nothing in them was learnt to be robust. A wrong scale or layout gives under 15 dB.
  it.each(["flux-dev-tiny", "flux-schnell-tiny"])("draws nearly the picture that %s draws in fp32", async (name) => {
    const modelDir = join(fixturesDir, name);
    const exact = await draw({ modelDir }, 64);
    const quantized = await draw({ modelDir, precision: "int8", cacheDir }, 64);
    expect(psnr(quantized, exact)).toBeGreaterThan(25);
    expect(quantized).not.toEqual(exact);
  });

  it("converts once: a second start reads the cache, and nothing unfinished stays", async () => {
    const options = {
      modelDir: join(fixturesDir, "flux-dev-tiny"),
      precision: "int8",
      cacheDir: join(cacheDir, "twice"),
    } as const;
    const first = await draw(options, 64);
    const kept = readdirSync(options.cacheDir).sort();
    expect(await draw(options, 64)).toEqual(first);
    expect(readdirSync(options.cacheDir).sort()).toEqual(kept);
    expect(kept.filter((name) => /^(transformer|text_encoder_2)-int8-[0-9a-f]{16}$/.test(name))).toHaveLength(
      kept.length,
    );
  });

  it("is built once when two ask for it at the same time", async () => {
    const modelDir = join(fixturesDir, "flux-dev-tiny");
    const shared = join(cacheDir, "shared");
    const [one, other] = await Promise.all([
      draw({ modelDir, precision: "int8", cacheDir: shared }, 64),
      draw({ modelDir, precision: "int8", cacheDir: shared }, 64),
    ]);
    expect(one).toEqual(other);
    expect(readdirSync(shared)).toHaveLength(2);
  });

  it("says so when the cache cannot be written", async () => {
    const file = join(cacheDir, "a-file");
    writeFileSync(file, "");
    const loading = FluxPipeline.load({
      modelDir: join(fixturesDir, "flux-dev-tiny"),
      precision: "int8",
      cacheDir: file,
    });
    await expect(loading).rejects.toMatchObject({ code: "io_failed" });
  });
});
