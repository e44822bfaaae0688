/** Reads what the reference implementations recorded: see tests/oracle/make_fixtures.py. */
import { join } from "node:path";
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
