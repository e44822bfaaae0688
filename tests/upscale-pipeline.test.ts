/** Enlarging by networks: tiles, factors, progress, cancellation, and files of many kinds. */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, test } from "vitest";
import { Enlarger } from "../src/engine/enlarger.ts";
import { UpscalerCatalog } from "../src/engine/upscaler-catalog.ts";
import type { GrayImage, RgbImage } from "../src/images/rgb-image.ts";
import { GraphBuilder, type Value } from "../src/onnx/graph-builder.ts";
import { UpscalePipeline } from "../src/pipelines/upscale-pipeline.ts";
import { fixturesDir } from "./oracle-fixtures.ts";

const folder = mkdtempSync(join(tmpdir(), "easel-upscale-"));
afterAll(() => rmSync(folder, { recursive: true }));
const modelsDir = join(import.meta.dirname, "../models");
const fixture = (name: string) => join(fixturesDir, "upscalers", `${name}.safetensors`);

/** Waves and an edge, so that a seam or a shift would show. */
function picture(width: number, height: number): RgbImage {
  const pixels = new Uint8Array(3 * width * height);
  for (let i = 0; i < pixels.length; i++) {
    const [channel, x, y] = [i % 3, Math.floor(i / 3) % width, Math.floor(i / 3 / width)];
    pixels[i] = 128 + 90 * Math.sin(x / (3 + channel)) * Math.cos(y / 5) + (x + 2 * y > 90 ? 37 : 0);
  }
  return { width, height, pixels };
}

function largestDifference(a: RgbImage | GrayImage, b: RgbImage | GrayImage): number {
  expect([a.width, a.height]).toEqual([b.width, b.height]);
  return a.pixels.reduce((most, value, i) => Math.max(most, Math.abs(value - b.pixels[i]!)), 0);
}

async function enlarged(file: string, image: RgbImage, scale: 2 | 4, maxTileSide?: number): Promise<RgbImage> {
  const pipeline = await UpscalePipeline.load({ file, threads: 1, maxTileSide });
  const { image: large } = await pipeline.enlarge({ image, alpha: undefined }, scale);
  await pipeline.dispose();
  return large;
}

function write(name: string, build: (g: GraphBuilder) => void): string {
  const g = new GraphBuilder("test");
  build(g);
  const file = join(folder, `${name}.onnx`);
  writeFileSync(file, g.build().model);
  return file;
}
/** Of a picture's planes. */
const sides = [1, 3, "height", "width"];
const repeating = (g: GraphBuilder, x: Value) => g.output("large", g.upsampleNearest(x, 2));

describe("a picture in tiles", () => {
  // The compact networks look no farther than a tile's surroundings, so all that may differ is how sums are rounded.
  test.each([
    ["compact-x4", 4, 40],
    ["compact-leaky-x2", 2, 33],
    ["rrdb-x4", 4, 100],
    ["rrdb-x2", 2, 100],
    ["easel-upscale/x2", 2, 60],
    ["easel-upscale/x4", 4, 60],
  ] as const)("by %s shows no seam: it is what it is in one piece, to one level of 255", async (name, scale, side) => {
    const image = picture(131, 117);
    const file = name.startsWith("easel-upscale") ? join(modelsDir, `${name}.safetensors`) : fixture(name);
    const whole = await enlarged(file, image, scale, 1000);
    const tiled = await enlarged(file, image, scale, side);
    expect(largestDifference(tiled, whole)).toBeLessThanOrEqual(1);
    expect(whole).toMatchObject({ width: 131 * scale, height: 117 * scale });
  });

  test("a network for 4 that is asked for 2 is averaged in blocks", async () => {
    const image = picture(21, 17);
    const four = await enlarged(fixture("compact-x4"), image, 4);
    const two = await enlarged(fixture("compact-x4"), image, 2);
    const averaged = { width: 42, height: 34, pixels: new Uint8Array(3 * 42 * 34) };
    for (let i = 0; i < averaged.pixels.length; i++) {
      const [channel, x, y] = [i % 3, Math.floor(i / 3) % 42, Math.floor(i / 3 / 42)];
      const at = (dx: number, dy: number) => four.pixels[3 * ((2 * y + dy) * 84 + 2 * x + dx) + channel]!;
      averaged.pixels[i] = Math.round((at(0, 0) + at(1, 0) + at(0, 1) + at(1, 1)) / 4);
    }
    // The network's own numbers are averaged, not the rounded ones.
    expect(largestDifference(two, averaged)).toBeLessThanOrEqual(1);
  });

  test("a network for 2 that is asked for 4 is applied twice", async () => {
    const file = fixture("compact-leaky-x2");
    const twice = await enlarged(file, await enlarged(file, picture(21, 17), 2), 2);
    expect(largestDifference(await enlarged(file, picture(21, 17), 4), twice)).toBe(0);
  });

  test("tells its progress tile by tile, and stops between two of them", async () => {
    const pipeline = await UpscalePipeline.load({ file: fixture("compact-x4"), threads: 1, maxTileSide: 40 });
    const original = { image: picture(100, 60), alpha: { width: 100, height: 60, pixels: new Uint8Array(6000) } };
    const told: { step: number; steps: number }[] = [];
    await pipeline.enlarge(original, 4, { onProgress: (progress) => told.push(progress) });
    // 3 × 2 tiles, for the colours and for the transparency.
    expect(told).toEqual(Array.from({ length: 12 }, (_, i) => ({ step: i + 1, steps: 12 })));

    const cancelling = new AbortController();
    let tiles = 0;
    const onProgress = () => void (++tiles === 3 && cancelling.abort());
    const stopped = pipeline.enlarge(original, 4, { signal: cancelling.signal, onProgress });
    await expect(stopped).rejects.toMatchObject({ code: "cancelled" });
    expect(tiles).toBe(3);
    await pipeline.dispose();
  });
});

describe("transparency", () => {
  test("is enlarged too, and what lies under it does not bleed into what can be seen", async () => {
    // A red disc; the transparent pixels are black, as most programs leave them.
    const side = 40;
    const inside = (i: number) => Math.hypot((i % side) - 20, Math.floor(i / side) - 20) < 12;
    const alpha = { width: side, height: side, pixels: new Uint8Array(side ** 2).map((_, i) => (inside(i) ? 255 : 0)) };
    const pixels = new Uint8Array(3 * side ** 2).map((_, i) => (i % 3 === 0 && inside(Math.floor(i / 3)) ? 255 : 0));
    for (const name of ["lanczos3", "easel-upscale"]) {
      const upscaler = await new UpscalerCatalog({}).resolve(name, 2);
      const large = await new Enlarger().enlarge(
        { image: { width: side, height: side, pixels }, alpha },
        { factor: 2, upscaler },
      );
      expect(large.alpha).toMatchObject({ width: 80, height: 80 });
      for (const [i, opacity] of large.alpha!.pixels.entries()) {
        if (opacity > 8) expect(large.image.pixels[3 * i], `${name}, pixel ${i}`).toBeGreaterThan(225);
      }
      expect(large.alpha!.pixels[0]).toBeLessThan(4);
      expect(large.alpha!.pixels[40 * 80 + 40]).toBeGreaterThan(250);
    }
  });
});

describe("an ONNX file", () => {
  test("of any network enlarges, whatever its input and output are called", async () => {
    const file = write("repeat", (g) => repeating(g, g.input("small", "float32", sides)));
    const image = picture(37, 21);
    const large = await enlarged(file, image, 2);
    const expected = { width: 74, height: 42, pixels: new Uint8Array(3 * 74 * 42) };
    for (let i = 0; i < expected.pixels.length; i++) {
      const [channel, x, y] = [i % 3, Math.floor(i / 3) % 74, Math.floor(i / 3 / 74)];
      expected.pixels[i] = image.pixels[3 * ((y >> 1) * 37 + (x >> 1)) + channel]!;
    }
    expect(largestDifference(large, expected)).toBe(0);
  });

  test.each([
    ["a fixed size", [1, 3, 64, 64], /export it as \[1, 3, height, width\] with both sides dynamic/],
    ["one channel", [1, 1, "height", "width"], /its input has the shape \[1, 1, height, width\]/],
  ])("of %s is refused", async (name, dims, message) => {
    const file = write(name.replace(" ", "-"), (g) => repeating(g, g.input("small", "float32", dims)));
    await expect(UpscalePipeline.load({ file })).rejects.toThrow(message);
  });

  test("of two inputs, of one that enlarges nothing, and of none at all, is refused", async () => {
    const two = write("two", (g) =>
      repeating(g, g.add(g.input("a", "float32", sides), g.input("b", "float32", sides))),
    );
    await expect(UpscalePipeline.load({ file: two })).rejects.toThrow(/it takes 2 inputs, not one picture/);
    const same = write("same", (g) => g.output("large", g.relu(g.input("small", "float32", sides))));
    await expect(UpscalePipeline.load({ file: same })).rejects.toThrow(/it makes \[1, 3, 64, 64\] of \[1, 3, 64, 64\]/);
    writeFileSync(join(folder, "none.onnx"), "not a model");
    await expect(UpscalePipeline.load({ file: join(folder, "none.onnx") })).rejects.toMatchObject({
      code: "model_invalid",
    });
  });

  test("that enlarges eight times serves for 2 and 4, one that enlarges three times for neither", async () => {
    const image = { width: 16, height: 16, pixels: new Uint8Array(768).fill(77) };
    const eight = write("eight", (g) => g.output("y", g.upsampleNearest(g.input("x", "float32", sides), 8)));
    expect((await enlarged(eight, image, 4)).pixels).toEqual(new Uint8Array(3 * 64 * 64).fill(77));
    const three = write("three", (g) => g.output("y", g.upsampleNearest(g.input("x", "float32", sides), 3)));
    await expect(enlarged(three, image, 4)).rejects.toThrow(
      "scale cannot be 4: this network enlarges 3 times; use another network.",
    );
  });
});

describe("the catalog of upscalers", () => {
  test("knows the built-in ones and the files of the home folder, and never takes a name for a path", async () => {
    const catalog = new UpscalerCatalog({ files: [fixture("rrdb-x4")] });
    expect(await catalog.names()).toEqual(["easel-upscale", "lanczos3", "rrdb-x4"]);
    expect(await catalog.resolve("rrdb-x4", 4)).toMatchObject({ file: fixture("rrdb-x4"), stepsPerPixel: 1 });
    for (const name of ["nonesuch", fixture("rrdb-x4"), "../upscalers/rrdb-x4", ""]) {
      await expect(catalog.resolve(name, 4)).rejects.toMatchObject({ code: "model_not_found", param: "model" });
    }
  });
});
