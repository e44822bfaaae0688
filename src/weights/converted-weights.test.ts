import { mkdirSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { float32, writeSafetensors } from "../../tests/support/weight-files.ts";
import { StoredWeights, WeightConverter } from "./converted-weights.ts";
import { readTensor } from "./tensor-data.ts";
import { WeightSource } from "./weight-source.ts";

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), "easel-converted-"))));
afterEach(() => rmSync(root, { recursive: true }));

/** A layer of two inputs and three outputs, in fp16. */
async function convertLayer(weight: number[], bias: number[]): Promise<StoredWeights> {
  const folder = join(root, "converted");
  mkdirSync(folder);
  writeSafetensors(join(root, "model.safetensors"), { weight: float32([3, 2], weight), bias: float32([3], bias) });
  const converter = new WeightConverter(WeightSource.openFolder(root), { linear: "fp16", int8Limit: 127 });
  converter.linear("weight", [3, 2]);
  converter.get("bias", [3]);
  await converter.write(folder);
  return StoredWeights.open(folder)!;
}

describe("weights in fp16", () => {
  test("are float16 and transposed in linear layers, and float32 elsewhere", async () => {
    const stored = await convertLayer([1, 2, 3, 4, 5, 0.1], [0.1, 70, 80]);
    const layer = stored.linear("weight", [3, 2]);
    if (layer.format !== "fp16") throw new Error(layer.format);
    const { file, offset, length, name } = layer.weight;
    expect(layer).toMatchObject({ transposed: true, weight: { dtype: "float16", shape: [2, 3], length: 12 } });
    const values = readTensor({ name, file, encoding: "float16", shape: [2, 3], ranges: [{ offset, length }] });
    expect([...values]).toEqual([1, 3, 5, 2, 4, 0.0999755859375]);
    expect(stored.get("bias", [3]).dtype).toBe("float32");
  });

  test.each([
    ["weight", [1, 2, 3, 4, 5, -1e5], [0, 0, 0]],
    ["bias", [1, 2, 3, 4, 5, 6], [0, 1e5, 0]],
  ])("cannot hold everything: a %s beyond their range is named", async (name, weight, bias) => {
    await expect(convertLayer(weight, bias)).rejects.toMatchObject({
      code: "model_invalid",
      message: `The tensor "${name}" in model.safetensors has values beyond ±65504, which fp16 cannot hold; choose another precision.`,
    });
  });
});
