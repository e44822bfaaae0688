/** Reads what the reference implementations recorded: see tests/oracle/make_fixtures.py. */
import { join } from "node:path";
import sharp from "sharp";
import type { GrayImage, RgbImage } from "../src/images/rgb-image.ts";
import { readSafetensorsHeader } from "../src/weights/safetensors.ts";
import { readTensor } from "../src/weights/tensor-data.ts";

export const fixturesDir = join(import.meta.dirname, "fixtures");

export interface FixtureTensor {
  data: Float32Array;
  dims: readonly number[];
}

/** Every tensor of a safetensors file. */
export function readFixtureTensors(path: string): Record<string, FixtureTensor> {
  const tensors: Record<string, FixtureTensor> = {};
  for (const [name, tensor] of readSafetensorsHeader(join(fixturesDir, path))) {
    tensors[name] = { data: readTensor(tensor), dims: tensor.shape };
  }
  return tensors;
}

/** ‖actual − expected‖ / ‖expected‖ */
export function relativeError(actual: Float32Array, expected: Float32Array): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values, expected ${expected.length}`);
  let difference = 0;
  let size = 0;
  for (const [i, value] of expected.entries()) {
    difference += (actual[i]! - value) ** 2;
    size += value ** 2;
  }
  return Math.sqrt(difference / size);
}

export async function readRgbImage(path: string): Promise<RgbImage> {
  const { data, info } = await sharp(join(fixturesDir, path)).removeAlpha().raw().toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, pixels: data };
}

export async function readGrayImage(path: string): Promise<GrayImage> {
  const { data, info } = await sharp(join(fixturesDir, path))
    .toColourspace("b-w")
    .raw()
    .toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, pixels: data };
}

/** Peak signal-to-noise ratio in dB, for 8-bit values. */
export function psnr(actual: Uint8Array, expected: Uint8Array): number {
  if (actual.length !== expected.length) throw new Error(`${actual.length} values, expected ${expected.length}`);
  let squares = 0;
  for (const [i, value] of expected.entries()) squares += (actual[i]! - value) ** 2;
  return 10 * Math.log10(255 ** 2 / Math.max(squares / expected.length, 1e-10));
}
