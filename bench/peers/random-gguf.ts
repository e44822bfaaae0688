/** GGUF files (version 3) with random values: what stable-diffusion.cpp reads in place of a published model. */
import { closeSync, openSync, writeSync } from "node:fs";
import { type Encoding, encodedBytes, encodings, valueCount } from "../../src/weights/tensor-location.ts";

/** Those that stable-diffusion.cpp keeps as they are in linear layers. */
export const ggufTypes = {
  float32: 0,
  float16: 1,
  q4_0: 2,
  q8_0: 8,
  q4_k: 12,
  bfloat16: 30,
} as const satisfies Partial<Record<Encoding, number>>;
export type GgufType = keyof typeof ggufTypes;

export interface RandomTensor {
  name: string;
  /** As torch has it, the outermost axis first. */
  shape: readonly number[];
  type: GgufType;
}

const alignment = 32;
/** A whole number of blocks of every type; each tensor repeats a stretch of as many values. */
const stretchValues = 1 << 20;

/** Writes the tensors one after the other; never more than a stretch of one is in memory. Throws when a row is no whole blocks. */
export function writeRandomGguf(path: string, architecture: string, tensors: readonly RandomTensor[]): void {
  let offset = 0;
  const placed = tensors.map((tensor) => {
    const length = encodedBytes(tensor.type, valueCount(tensor.shape));
    if (length === undefined) throw new Error(`${tensor.name} is no whole number of ${tensor.type} blocks`);
    const start = offset;
    offset = aligned(start + length);
    return { ...tensor, start, length };
  });
  const header = Buffer.concat([
    Buffer.from("GGUF"),
    uint32(3),
    uint64(placed.length),
    uint64(1),
    text("general.architecture"),
    uint32(8), // a text follows
    text(architecture),
    ...placed.flatMap(({ name, shape, type, start }) => [
      text(name),
      uint32(shape.length),
      ...shape.toReversed().map(uint64),
      uint32(ggufTypes[type]),
      uint64(start),
    ]),
  ]);
  const stretches = new Map<GgufType, Buffer>();
  const file = openSync(path, "w");
  try {
    writeAll(file, padded(header));
    for (const { type, length } of placed) {
      let stretch = stretches.get(type);
      if (stretch === undefined) stretches.set(type, (stretch = randomValues(type)));
      for (let left = length; left > 0; left -= stretch.length) writeAll(file, stretch.subarray(0, left));
      writeAll(file, Buffer.alloc(aligned(length) - length));
    }
  } finally {
    closeSync(file);
  }
}

/** About as large as a trained network's values, in the type's own blocks: a step's cost must not hang on infinities or on zeros. */
function randomValues(type: GgufType): Buffer {
  const { values, bytes } = encodings[type];
  const stretch = Buffer.alloc((stretchValues / values) * bytes);
  for (let i = 0; i < stretch.length; i++) stretch[i] = Math.random() * 256;
  for (let at = 0; at < stretch.length; at += bytes) {
    switch (type) {
      case "float32":
        stretch.writeFloatLE((Math.random() - 0.5) / 32, at);
        break;
      case "float16":
        stretch.writeUInt16LE(smallHalf(), at);
        break;
      case "bfloat16":
        stretch[at + 1] = (Math.random() < 0.5 ? 0x80 : 0) | 0x3c; // 2⁻⁷ to 2⁻⁵
        break;
      case "q8_0": // one scale, 32 integers
      case "q4_0":
        stretch.writeUInt16LE(type === "q8_0" ? halfOfScale8 : halfOfScale4, at);
        break;
      case "q4_k": // a scale of the scales and one of the minima, then both in 6 bits
        stretch.writeUInt16LE(halfOfScaleK, at);
        stretch.writeUInt16LE(halfOfScaleK, at + 2);
        break;
    }
  }
  return stretch;
}

// float16 by its bits: 2⁻¹³, 2⁻⁹ and 2⁻¹⁴.
const halfOfScale8 = 0x0800;
const halfOfScale4 = 0x1800;
const halfOfScaleK = 0x0400;

/** ±2⁻⁷ to ±2⁻⁶ in float16. */
function smallHalf(): number {
  return (Math.random() < 0.5 ? 0x8000 : 0) | 0x2000 | Math.floor(Math.random() * 0x400);
}

function writeAll(file: number, bytes: Buffer): void {
  for (let written = 0; written < bytes.length;) written += writeSync(file, bytes, written);
}

const aligned = (bytes: number) => Math.ceil(bytes / alignment) * alignment;
const padded = (bytes: Buffer) => Buffer.concat([bytes, Buffer.alloc(aligned(bytes.length) - bytes.length)]);

function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

function uint64(value: number): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

function text(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}
