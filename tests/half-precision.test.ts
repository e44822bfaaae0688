/**
 * fp16 as a device with half precision computes it: every product's inputs and outputs rounded, which the CPU leaves out by itself
 * (see `roundHalves`). What it costs in accuracy, and that nothing overflows where FLUX and T5 are known to.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import { GraphBuilder } from "../src/onnx/graph-builder.ts";
import { Session } from "../src/onnx/session.ts";
import { FluxPipeline, type FluxPipelineOptions } from "../src/pipelines/flux-pipeline.ts";
import { fixturesDir, psnr } from "./oracle-fixtures.ts";
import { drawCase, pictureCases } from "./support/picture-cases.ts";
import { readRgbImage } from "./oracle-fixtures.ts";

vi.mock("../src/onnx/model-proto.ts", async (original) => {
  const proto = await original<typeof import("../src/onnx/model-proto.ts")>();
  const { roundHalves } = await import("./support/half-precision.ts");
  const encodeModel: typeof proto.encodeModel = (model) => proto.encodeModel(roundHalves(model));
  return { ...proto, encodeModel };
});

let cacheDir: string;
beforeAll(() => (cacheDir = mkdtempSync(join(tmpdir(), "easel-half-"))));
afterAll(() => rmSync(cacheDir, { recursive: true }));

async function draw(options: FluxPipelineOptions, prompt: string, side: number): Promise<Uint8Array> {
  const pipeline = await FluxPipeline.load({ ...options, cacheDir, device: "cpu" });
  const { images } = await pipeline.generate({ prompt, width: side, height: side, seed: 1, numImages: 1 });
  await pipeline.dispose();
  return images[0]!.pixels;
}

test("products here overflow and round as in half precision, so that these tests can fail", async () => {
  const g = new GraphBuilder("overflow");
  const x = g.input("x", "float32", [2, 1]);
  const weight = g.half(g.constant(new Float32Array([1]), [1, 1]));
  g.output("y", g.linearHalf(x, weight));
  const session = await Session.create(g.build(), { device: "cpu", threads: 1 });
  const { y } = await session.run({ x: { data: new Float32Array([70_000, 2049]), dims: [2, 1] } });
  expect([...y!.data]).toEqual([Infinity, 2048]);
  await session.dispose();
});

describe("fp16", () => {
  test.each(pictureCases)("draws diffusers' picture: $model $name", async (c) => {
    const pipeline = await FluxPipeline.load({
      modelDir: join(fixturesDir, c.model),
      precision: "fp16",
      device: "cpu",
      cacheDir,
    });
    const { images } = await drawCase(pipeline, c);
    await pipeline.dispose();
    for (const [i, image] of images.entries()) {
      const { pixels } = await readRgbImage(`pictures/${c.files[i]}`);
      console.log(c.model, c.name, psnr(image.pixels, pixels));
    }
  });
  test("sketch", async () => {
    const modelDir = join(import.meta.dirname, "../models/easel-sketch");
    for (const p of ["A white cat", "a red boat on the sea", "a yellow car", "a house by a lake"])
      console.log("sketch", p, psnr(await draw({ modelDir, precision: "fp16" }, p, 256), await draw({ modelDir }, p, 256)));
  });
});
