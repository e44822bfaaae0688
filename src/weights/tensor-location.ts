/** Where a tensor lies on disk and how its values are written there. Locations are plain data: nothing is read through them here. */
import { WeightsInvalidError } from "../errors.ts";

/**
 * The ways to write a tensor's values, each in blocks of `values` values in `bytes` bytes: plain floats, the two 8-bit floats
 * of safetensors (OCP E4M3 without infinities, E5M2), ggml's block quantizations, and integers, which checkpoints hold for
 * bookkeeping only.
 */
export const encodings = {
  float32: { values: 1, bytes: 4 },
  float16: { values: 1, bytes: 2 },
  bfloat16: { values: 1, bytes: 2 },
  float8_e4m3: { values: 1, bytes: 1 },
  float8_e5m2: { values: 1, bytes: 1 },
  q4_0: { values: 32, bytes: 18 },
  q4_1: { values: 32, bytes: 20 },
  q5_0: { values: 32, bytes: 22 },
  q5_1: { values: 32, bytes: 24 },
  q8_0: { values: 32, bytes: 34 },
  q2_k: { values: 256, bytes: 84 },
  q3_k: { values: 256, bytes: 110 },
  q4_k: { values: 256, bytes: 144 },
  q5_k: { values: 256, bytes: 176 },
  q6_k: { values: 256, bytes: 210 },
  int64: { values: 1, bytes: 8 },
  int32: { values: 1, bytes: 4 },
  uint8: { values: 1, bytes: 1 },
} as const satisfies Record<string, { values: number; bytes: number }>;
export type Encoding = keyof typeof encodings;

/** The encodings that ONNX Runtime reads from a file as they are. */
const mappableEncodings = ["float32", "float16", "bfloat16"] as const;
export type MappableEncoding = (typeof mappableEncodings)[number];

export interface ByteRange {
  /** Bytes from the start of the file. */
  offset: number;
  /** Bytes. */
  length: number;
}

/** Where a tensor lies, in any encoding. `readTensor` gives its values. */
export interface TensorLocation {
  name: string;
  encoding: Encoding;
  shape: readonly number[];
  /** Absolute path with links resolved. */
  file: string;
  /**
   * The parts of the file that hold the values, in row-major order when read one after the other. One part, except where a
   * file's rows come in another order than the network's; every part is whole blocks of the encoding.
   */
  ranges: readonly ByteRange[];
  /** What the stored values must be multiplied by; absent: 1. */
  scale?: number;
}

/** A tensor that ONNX Runtime can map from its file as it is: plain floats in one piece. */
export interface MappableTensor extends TensorLocation, ByteRange {
  encoding: MappableEncoding;
  /** The encoding, as ONNX calls it. */
  dtype: MappableEncoding;
}

/** `tensor` as ONNX Runtime may map it, or undefined when its values must be read and converted first. */
export function asMappable(tensor: TensorLocation): MappableTensor | undefined {
  const encoding = mappableEncodings.find((candidate) => candidate === tensor.encoding);
  const [range, ...others] = tensor.ranges;
  if (encoding === undefined || range === undefined || others.length > 0 || tensor.scale !== undefined)
    return undefined;
  return { ...tensor, ...range, encoding, dtype: encoding };
}

/** How many values a shape has; a scalar has one. */
export function valueCount(shape: readonly number[]): number {
  return shape.reduce((n, dim) => n * dim, 1);
}

/** Bytes of `values` values, or undefined when they are not whole blocks. */
export function encodedBytes(encoding: Encoding, values: number): number | undefined {
  const block = encodings[encoding];
  return values % block.values === 0 ? (values / block.values) * block.bytes : undefined;
}

/**
 * The parts of `tensor`'s ranges that hold `count` values from value `first` on.
 *
 * @throws WeightsInvalidError when a block of the encoding would have to be cut.
 */
export function locateValues(tensor: TensorLocation, first: number, count: number): ByteRange[] {
  const start = encodedBytes(tensor.encoding, first);
  const length = encodedBytes(tensor.encoding, count);
  if (start === undefined || length === undefined) {
    throw new WeightsInvalidError(
      `The tensor "${tensor.name}" is stored as ${tensor.encoding}, in blocks that do not end where its rows do.`,
    );
  }
  const found: ByteRange[] = [];
  let passed = 0; // bytes of the ranges before this one
  for (const range of tensor.ranges) {
    const from = Math.max(start - passed, 0);
    const to = Math.min(start + length - passed, range.length);
    if (from < to) found.push({ offset: range.offset + from, length: to - from });
    passed += range.length;
  }
  return found;
}

/** Rows along a tensor's first axis. */
export interface RowSpan {
  first: number;
  count: number;
}

/**
 * The tensor made of some of `tensor`'s rows, in the order of `spans`; no byte moves.
 *
 * @throws WeightsInvalidError when a block of the encoding would have to be cut.
 */
export function selectRows(tensor: TensorLocation, spans: readonly RowSpan[]): TensorLocation {
  const [, ...rowShape] = tensor.shape;
  const rowValues = valueCount(rowShape);
  const rows = spans.reduce((n, span) => n + span.count, 0);
  const ranges = spans.flatMap(({ first, count }) => locateValues(tensor, first * rowValues, count * rowValues));
  return { ...tensor, shape: [rows, ...rowShape], ranges };
}
