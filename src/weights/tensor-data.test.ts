import { mkdtempSync, rmSync, truncateSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { float32, writeSafetensors, zeros } from "../../tests/support/weight-files.ts";
import { WeightsInvalidError } from "../errors.ts";
import { readGgufHeader } from "./gguf.ts";
import { readSafetensorsHeader } from "./safetensors.ts";
import { readRows, readTensor } from "./tensor-data.ts";
import { asMappable, selectRows, type TensorLocation } from "./tensor-location.ts";

const formats = join(import.meta.dirname, "../../tests/fixtures/formats");
const dir = mkdtempSync(join(tmpdir(), "easel-tensors-"));
afterAll(() => rmSync(dir, { recursive: true }));

const blocks = readGgufHeader(join(formats, "blocks.gguf")).tensors;
const recorded = readSafetensorsHeader(join(formats, "blocks.safetensors"));
const get = (tensors: ReadonlyMap<string, TensorLocation>, name: string) => {
  const tensor = tensors.get(name);
  if (tensor === undefined) throw new Error(`no ${name}`);
  return tensor;
};

function one(path: string, name: string): TensorLocation {
  return get(readSafetensorsHeader(path), name);
}

/** A tensor [rows, columns] of 0, 1, 2, … */
function counting(rows: number, columns: number): TensorLocation {
  const path = join(dir, "counting.safetensors");
  writeSafetensors(path, { a: float32([rows, columns], Array(rows * columns).keys()) });
  return one(path, "a");
}

describe("a tensor's values", () => {
  // No tolerance: every product and sum of a block's integers and half floats is rounded once, here as there.
  it.each([...blocks.keys()])("are gguf-py's, to the last bit: %s", (name) => {
    expect(readTensor(get(blocks, name))).toEqual(readTensor(get(recorded, name)));
  });

  it.each(["e4m3", "e5m2", "f16", "bf16"])("are torch's for every small float: %s", (name) => {
    const tensors = readSafetensorsHeader(join(formats, "small-floats.safetensors"));
    const actual = readTensor(get(tensors, name));
    const expected = readTensor(get(tensors, `${name}.float32`));
    expect(actual.length).toBeGreaterThanOrEqual(256);
    // Compared as numbers: a NaN's bits are nobody's promise.
    expect([...actual]).toEqual([...expected]);
  });

  it("are read row by row in any encoding", () => {
    for (const tensor of blocks.values()) {
      expect(readRows(tensor, 1, 3)).toEqual(readTensor(tensor).subarray(512, 4 * 512));
      expect(readRows(tensor, 5, 0)).toHaveLength(0);
    }
    expect(() => readRows(get(blocks, "F32"), 4, 2)).toThrow("which has 5");
  });

  it("are put together from a tensor's rows in another order", () => {
    const swapped = selectRows(counting(4, 3), [
      { first: 2, count: 2 },
      { first: 0, count: 1 },
    ]);
    expect(swapped.shape).toEqual([3, 3]);
    expect([...readTensor(swapped)]).toEqual([6, 7, 8, 9, 10, 11, 0, 1, 2]);
    expect([...readRows(swapped, 1, 2)]).toEqual([9, 10, 11, 0, 1, 2]);
    expect([...readTensor(selectRows(swapped, [{ first: 1, count: 2 }]))]).toEqual([9, 10, 11, 0, 1, 2]);
    expect(asMappable(swapped)).toBeUndefined();
  });

  it("are multiplied by the tensor's scale", () => {
    expect([...readTensor({ ...counting(2, 2), scale: 0.5 })]).toEqual([0, 0.5, 1, 1.5]);
  });

  it("are read in pieces when there are many", () => {
    const tensor = counting(1100, 1000); // 4.4 MB, more than a piece
    const values = readTensor(tensor);
    expect(values.every((value, i) => value === i)).toBe(true);
    expect(readRows(tensor, 1099, 1)[999]).toBe(1_099_999);
  });

  it("may be one or none", () => {
    const path = join(dir, "few.safetensors");
    writeSafetensors(path, { scalar: float32([], [7]), none: float32([0, 4], []) });
    expect([...readTensor(one(path, "scalar"))]).toEqual([7]);
    expect(readTensor(one(path, "none"))).toHaveLength(0);
  });

  it("are refused when they are integers, when blocks would be cut, and when the file has changed", () => {
    const path = join(dir, "changed.safetensors");
    writeSafetensors(path, { ids: zeros("I64", [4], 8), a: float32([4], [1, 2, 3, 4]) });
    expect(() => readTensor(one(path, "ids"))).toThrow(/"ids" in changed.safetensors holds integers \(int64\)/);
    const tensor = one(path, "a");
    truncateSync(path, 100);
    expect(() => readTensor(tensor)).toThrow(/shorter than when it was opened/);
    rmSync(path);
    expect(() => readTensor(tensor)).toThrow(WeightsInvalidError);
    const oddRows = { ...get(blocks, "Q8_0"), shape: [160, 16] };
    expect(() => readRows(oddRows, 1, 1)).toThrow(/blocks that do not end where its rows do/);
  });
});
