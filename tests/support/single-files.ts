/** Rewrites the tiny oracle pipelines' networks as other tools would have them: Black Forest Labs' names, GGUF. */
import { writeFileSync } from "node:fs";
import { type KeyRule, rowSpans } from "../../src/weights/key-map.ts";
import { readTensor } from "../../src/weights/tensor-data.ts";
import { WeightSource } from "../../src/weights/weight-source.ts";
import { float32, ggufFile, type TensorToWrite } from "./weight-files.ts";

export interface Tensor {
  shape: readonly number[];
  values: Float32Array;
}
export type Tensors = Record<string, Tensor>;

/** A network's tensors out of its diffusers folder. */
export function readNetwork(folder: string): Tensors {
  const source = WeightSource.openFolder(folder);
  return Object.fromEntries(
    source.tensors().map((tensor) => [tensor.name, { shape: tensor.shape, values: readTensor(tensor) }]),
  );
}

/** Diffusers' tensors under the names, and in the layout, that `rules` translate from. Every tensor must find its place. */
export function renamed(tensors: Tensors, rules: readonly KeyRule[]): Tensors {
  const left = new Set(Object.keys(tensors));
  const result: Tensors = {};
  for (const rule of rules) {
    for (let number = 0; number === 0 || (rule.from.includes("*") && number < 100); number++) {
      for (const suffix of ["weight", "bias"]) {
        const names = rule.to.map(({ name }) => `${name.replace("*", String(number))}.${suffix}`);
        if (!names.every((name) => left.has(name))) continue;
        const parts = names.map((name) => tensors[name]!);
        const from = rule.from.replace("*", String(number));
        const isNorm = /\.(?:query|key)_norm$/.test(from);
        result[`${from}.${isNorm ? "scale" : suffix}`] = fuse(parts, rule);
        for (const name of names) left.delete(name);
      }
    }
  }
  if (left.size > 0) throw new Error(`no rule for ${[...left].join(", ")}`);
  return result;
}

/** The tensor of which each part is some rows. */
function fuse(parts: readonly Tensor[], { to }: KeyRule): Tensor {
  const rows = parts.reduce((total, { shape }) => total + shape[0]!, 0);
  const rowShape = parts[0]!.shape.slice(1);
  const rowValues = rowShape.reduce((a, b) => a * b, 1);
  const values = new Float32Array(rows * rowValues);
  for (const [i, part] of parts.entries()) {
    let read = 0;
    for (const { first, count } of rowSpans(to[i]!, rows, "a fused tensor")) {
      values.set(part.values.subarray(read, read + count * rowValues), first * rowValues);
      read += count * rowValues;
    }
  }
  const isConv = to[0]!.fromConv === true && rowShape.length === 1;
  return { shape: [rows, ...rowShape, ...(isConv ? [1, 1] : [])], values };
}

export function asFloat32(tensors: Tensors, prefix = ""): Record<string, TensorToWrite> {
  return Object.fromEntries(
    Object.entries(tensors).map(([name, { shape, values }]) => [prefix + name, float32(shape, values)]),
  );
}

/** A GGUF file: matrices whose rows are whole blocks as Q8_0 when `quantize`, all else as F32. */
export function writeGguf(path: string, tensors: Tensors, { quantize = false } = {}): void {
  let offset = 0;
  const data: Uint8Array[] = [];
  const entries = Object.entries(tensors).map(([name, { shape, values }]) => {
    const asBlocks = quantize && shape.length === 2 && shape[1]! % 32 === 0;
    const bytes = asBlocks ? encodeQ8(values) : new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const padding = new Uint8Array((32 - (bytes.length % 32)) % 32);
    data.push(bytes, padding);
    const entry = { name, dims: shape.toReversed(), type: asBlocks ? 8 : 0, offset };
    offset += bytes.length + padding.length;
    return entry;
  });
  writeFileSync(path, Buffer.concat([ggufFile({ tensors: entries }), ...data]));
}

/** ggml's Q8_0: 32 values as a float16 scale and 32 signed bytes. */
function encodeQ8(values: Float32Array): Uint8Array {
  const out = new DataView(new ArrayBuffer((values.length / 32) * 34));
  for (let block = 0; block < values.length / 32; block++) {
    const part = values.subarray(32 * block, 32 * block + 32);
    const scale = part.reduce((most, value) => Math.max(most, Math.abs(value)), 0) / 127;
    out.setFloat16(34 * block, scale, true);
    for (const [i, value] of part.entries()) {
      out.setInt8(34 * block + 2 + i, scale === 0 ? 0 : Math.round(value / scale));
    }
  }
  return new Uint8Array(out.buffer);
}
