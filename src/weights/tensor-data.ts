/**
 * Reads a tensor's values from disk, one tensor at a time, whatever its encoding. Memory: the result and a few megabytes;
 * the file is read piece by piece at its positions and never mapped.
 */
import { closeSync, openSync } from "node:fs";
import { basename } from "node:path";
import { WeightsInvalidError } from "../errors.ts";
import { decodeQ2K, decodeQ3K, decodeQ4K, decodeQ5K, decodeQ6K } from "./gguf-k-blocks.ts";
import { decodeQ4_0, decodeQ4_1, decodeQ5_0, decodeQ5_1, decodeQ8_0 } from "./gguf-blocks.ts";
import { halfToFloat } from "./half-float.ts";
import { readExactly } from "./read-exactly.ts";
import { type Encoding, encodings, locateValues, type TensorLocation, valueCount } from "./tensor-location.ts";

/** How much of the file is in memory at a time. */
const pieceBytes = 4 << 20;

/** Writes the values of whole blocks, `bytes`, to the start of `out`. Piece buffers are aligned to 8 bytes. */
type Decoder = (bytes: Uint8Array, out: Float32Array) => void;

const decoders: Readonly<Partial<Record<Encoding, Decoder>>> = {
  float32: (bytes, out) => out.set(new Float32Array(bytes.buffer, bytes.byteOffset, bytes.length / 4)),
  float16: (bytes, out) =>
    decodeByTable(new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2), out, halfToFloat),
  bfloat16: decodeBfloat16,
  float8_e4m3: (bytes, out) => decodeByTable(bytes, out, e4m3ToFloat),
  float8_e5m2: (bytes, out) => decodeByTable(bytes, out, e5m2ToFloat),
  q4_0: decodeQ4_0,
  q4_1: decodeQ4_1,
  q5_0: decodeQ5_0,
  q5_1: decodeQ5_1,
  q8_0: decodeQ8_0,
  q2_k: decodeQ2K,
  q3_k: decodeQ3K,
  q4_k: decodeQ4K,
  q5_k: decodeQ5K,
  q6_k: decodeQ6K,
};

/**
 * All of a tensor's values as float32, row-major, multiplied by its scale.
 *
 * @throws WeightsInvalidError when the file cannot be read, has become shorter, or the tensor holds integers.
 */
export function readTensor(tensor: TensorLocation): Float32Array {
  return readValues(tensor, 0, valueCount(tensor.shape));
}

/**
 * Rows `first` to `first + count` of a tensor along its first axis: float32 [count, …the other axes].
 *
 * @throws WeightsInvalidError as `readTensor`, or when the encoding's blocks do not end where rows do.
 */
export function readRows(tensor: TensorLocation, first: number, count: number): Float32Array {
  const [rows = 1, ...rowShape] = tensor.shape;
  if (first < 0 || count < 0 || first + count > rows) {
    throw new Error(`rows ${first} to ${first + count} of "${tensor.name}", which has ${rows}`);
  }
  const rowValues = valueCount(rowShape);
  return readValues(tensor, first * rowValues, count * rowValues);
}

function readValues(tensor: TensorLocation, first: number, count: number): Float32Array {
  const decode = decoders[tensor.encoding];
  if (decode === undefined) {
    throw new WeightsInvalidError(
      `The tensor "${tensor.name}" in ${basename(tensor.file)} holds integers (${tensor.encoding}) where weights belong.`,
    );
  }
  const block = encodings[tensor.encoding];
  const ranges = locateValues(tensor, first, count);
  const values = new Float32Array(count);
  const piece = new Uint8Array(Math.min(blockMultiple(pieceBytes, block.bytes), (count / block.values) * block.bytes));
  const fd = open(tensor);
  try {
    let done = 0; // values
    for (const { offset, length } of ranges) {
      for (let at = 0; at < length; at += piece.length) {
        const bytes = piece.subarray(0, Math.min(piece.length, length - at));
        if (!readExactly(fd, offset + at, bytes)) throw unreadable(tensor, "is shorter than when it was opened");
        decode(bytes, values.subarray(done));
        done += (bytes.length / block.bytes) * block.values;
      }
    }
  } finally {
    closeSync(fd);
  }
  if (tensor.scale !== undefined) multiply(values, tensor.scale);
  return values;
}

function blockMultiple(bytes: number, blockBytes: number): number {
  return bytes - (bytes % blockBytes);
}

function open(tensor: TensorLocation): number {
  try {
    return openSync(tensor.file, "r");
  } catch (cause) {
    throw unreadable(tensor, "cannot be opened", cause);
  }
}

function unreadable(tensor: TensorLocation, problem: string, cause?: unknown): WeightsInvalidError {
  return new WeightsInvalidError(`${basename(tensor.file)} ${problem}; the tensor "${tensor.name}" is lost.`, {
    cause,
  });
}

function multiply(values: Float32Array, scale: number): void {
  for (let i = 0; i < values.length; i++) values[i] = values[i]! * scale;
}

/** bfloat16 is the upper half of a float32. */
function decodeBfloat16(bytes: Uint8Array, out: Float32Array): void {
  const halves = new Uint16Array(bytes.buffer, bytes.byteOffset, bytes.length / 2);
  const words = new Uint32Array(out.buffer, out.byteOffset, halves.length);
  for (let i = 0; i < halves.length; i++) words[i] = halves[i]! << 16;
}

function decodeByTable(codes: Uint8Array | Uint16Array, out: Float32Array, table: Float32Array): void {
  for (let i = 0; i < codes.length; i++) out[i] = table[codes[i]!]!;
}

/** OCP 8-bit floating point, E4M3: bias 7, no infinities, NaN where every bit but the sign is set (arXiv:2209.05433). */
const e4m3ToFloat = Float32Array.from({ length: 256 }, (_, code) => {
  const mantissa = code & 7;
  const exponent = (code >> 3) & 15;
  const sign = code & 0x80 ? -1 : 1;
  if (exponent === 15 && mantissa === 7) return Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -9 : (8 + mantissa) * 2 ** (exponent - 10));
});

/** E5M2 is the upper half of a float16. */
const e5m2ToFloat = Float32Array.from({ length: 256 }, (_, code) => halfToFloat[code << 8]!);
