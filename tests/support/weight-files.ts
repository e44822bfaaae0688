/** Writes small weight files, right or wrong, for tests of their readers. */
import { writeFileSync } from "node:fs";

export interface TensorToWrite {
  /** As safetensors spells it. */
  dtype: string;
  shape: readonly number[];
  data: Uint8Array;
}

export function float32(shape: readonly number[], values: Iterable<number>): TensorToWrite {
  const data = Float32Array.from(values);
  return { dtype: "F32", shape, data: new Uint8Array(data.buffer) };
}

/** A tensor of zeros; `bytes` of one element. */
export function zeros(dtype: string, shape: readonly number[], bytes: number): TensorToWrite {
  return { dtype, shape, data: new Uint8Array(shape.reduce((n, dim) => n * dim, bytes)) };
}

export function writeSafetensors(
  path: string,
  tensors: Readonly<Record<string, TensorToWrite>>,
  metadata?: Readonly<Record<string, string>>,
): void {
  let offset = 0;
  const header: Record<string, unknown> = metadata === undefined ? {} : { __metadata__: metadata };
  for (const [name, { dtype, shape, data }] of Object.entries(tensors)) {
    header[name] = { dtype, shape, data_offsets: [offset, offset + data.length] };
    offset += data.length;
  }
  const text = Buffer.from(JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(text.length));
  writeFileSync(path, Buffer.concat([prefix, text, ...Object.values(tensors).map(({ data }) => data)]));
}

/** GGUF's little-endian parts. */
export function uint32(value: number): Buffer {
  const bytes = Buffer.alloc(4);
  bytes.writeUInt32LE(value);
  return bytes;
}

export function uint64(value: number | bigint): Buffer {
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(BigInt(value));
  return bytes;
}

export function ggufText(value: string): Buffer {
  const bytes = Buffer.from(value);
  return Buffer.concat([uint64(bytes.length), bytes]);
}

export interface GgufTensor {
  name: string;
  /** Innermost axis first, as the format has it. */
  dims: readonly (number | bigint)[];
  /** ggml_type */
  type: number;
  offset: number | bigint;
}

export interface GgufParts {
  magic?: string;
  version?: number;
  tensorCount?: number | bigint;
  pairCount?: number | bigint;
  /** Encoded key-value pairs. */
  pairs?: readonly Buffer[];
  tensors?: readonly GgufTensor[];
  alignment?: number;
  dataBytes?: number;
}

/** A GGUF file; every part may be made to lie. */
export function ggufFile({
  magic = "GGUF",
  version = 3,
  pairs = [],
  tensors = [],
  alignment = 32,
  ...rest
}: GgufParts): Buffer {
  const header = Buffer.concat([
    Buffer.from(magic),
    uint32(version),
    uint64(rest.tensorCount ?? tensors.length),
    uint64(rest.pairCount ?? pairs.length),
    ...pairs,
    ...tensors.flatMap(({ name, dims, type, offset }) => [
      ggufText(name),
      uint32(dims.length),
      ...dims.map(uint64),
      uint32(type),
      uint64(offset),
    ]),
  ]);
  const padding = tensors.length > 0 ? (alignment - (header.length % alignment)) % alignment : 0;
  return Buffer.concat([header, Buffer.alloc(padding + (rest.dataBytes ?? 0))]);
}
