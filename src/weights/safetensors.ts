/**
 * Reads the header of a safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes
 * (https://github.com/huggingface/safetensors#format). The tensors themselves are never read here: ONNX Runtime maps them.
 * Nothing in the header is trusted before it has been checked against the file.
 */
import { closeSync, fstatSync, openSync, readSync, realpathSync } from "node:fs";
import { basename } from "node:path";
import type { DType } from "../onnx/model-proto.ts";
import { bytesPerElement } from "../onnx/model-proto.ts";
import { WeightsInvalidError } from "../errors.ts";

/** The format's own limit for a header, 100 MB. */
const maxHeaderBytes = 100_000_000;

const dtypes: Readonly<Record<string, DType>> = { F32: "float32", F16: "float16", BF16: "bfloat16" };

/** Where a tensor lies. */
export interface TensorLocation {
  name: string;
  dtype: DType;
  shape: readonly number[];
  /** Absolute path with links resolved. */
  file: string;
  /** Bytes from the start of the file. */
  offset: number;
  /** Bytes. */
  length: number;
}

/**
 * The tensors of one file, by name.
 *
 * @throws WeightsInvalidError when the file is not a well-formed safetensors file, or a tensor has an element type other
 *   than F32, F16 or BF16.
 */
export function readSafetensorsHeader(path: string): Map<string, TensorLocation> {
  const fail = (problem: string): never => {
    throw new WeightsInvalidError(`${basename(path)} is not a usable safetensors file: ${problem}.`);
  };
  const { header, dataStart, fileBytes } = readHeader(path, fail);
  const dataBytes = fileBytes - dataStart;
  const file = realpathSync(path);

  const tensors = new Map<string, TensorLocation>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, begin, end } = parseEntry(entry, name, fail);
    const elementType = Object.hasOwn(dtypes, dtype) ? dtypes[dtype] : undefined;
    if (elementType === undefined)
      return fail(`tensor "${name}" has the type ${dtype}; F32, F16 and BF16 are supported`);
    if (begin > end || end > dataBytes) fail(`tensor "${name}" lies outside the file`);
    const expectedBytes = shape.reduce((n, dim) => n * dim, 1) * bytesPerElement[elementType];
    if (expectedBytes !== end - begin) {
      fail(`tensor "${name}" of shape [${shape.join(", ")}] needs ${expectedBytes} bytes but has ${end - begin}`);
    }
    tensors.set(name, { name, dtype: elementType, shape, file, offset: dataStart + begin, length: end - begin });
  }
  refuseOverlaps(tensors, dataStart, fileBytes, fail);
  return tensors;
}

type Fail = (problem: string) => never;

function readHeader(path: string, fail: Fail): { header: object; dataStart: number; fileBytes: number } {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (cause) {
    throw new WeightsInvalidError(`${basename(path)} cannot be opened.`, { cause });
  }
  try {
    const fileBytes = fstatSync(fd).size;
    const prefix = readExactly(fd, 0, 8) ?? fail("it is shorter than 8 bytes");
    const length = prefix.readBigUInt64LE(0);
    if (length > BigInt(maxHeaderBytes))
      fail(`its header claims ${length} bytes, more than the format's limit of 100 MB`);
    const headerBytes = Number(length);
    if (8 + headerBytes > fileBytes) fail("its header is longer than the file (was the download cut off?)");
    const text = readExactly(fd, 8, headerBytes) ?? fail("its header cannot be read");
    let header: unknown;
    try {
      header = JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(text));
    } catch {
      fail("its header is not JSON");
    }
    if (typeof header !== "object" || header === null || Array.isArray(header))
      return fail("its header is not an object");
    return { header, dataStart: 8 + headerBytes, fileBytes };
  } finally {
    closeSync(fd);
  }
}

function readExactly(fd: number, position: number, length: number): Buffer | undefined {
  const buffer = Buffer.alloc(length);
  let read = 0;
  while (read < length) {
    const n = readSync(fd, buffer, read, length - read, position + read);
    if (n === 0) return undefined;
    read += n;
  }
  return buffer;
}

function isCount(n: unknown): n is number {
  return Number.isSafeInteger(n) && (n as number) >= 0;
}

function parseEntry(entry: unknown, name: string, fail: Fail) {
  if (typeof entry !== "object" || entry === null) return fail(`tensor "${name}" has no description`);
  const { dtype, shape, data_offsets: offsets } = entry as Record<string, unknown>;
  if (typeof dtype !== "string") return fail(`tensor "${name}" has no dtype`);
  if (!Array.isArray(shape) || !shape.every(isCount)) return fail(`tensor "${name}" has a malformed shape`);
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    return fail(`tensor "${name}" has malformed offsets`);
  }
  const [begin, end] = offsets as [number, number];
  return { dtype, shape: shape as number[], begin, end };
}

/** The format asks for tensors that cover the data without holes or overlaps; both are signs of a damaged or hostile file. */
function refuseOverlaps(tensors: Map<string, TensorLocation>, dataStart: number, fileBytes: number, fail: Fail): void {
  const ordered = [...tensors.values()].sort((a, b) => a.offset - b.offset || a.length - b.length);
  let end = dataStart;
  for (const tensor of ordered) {
    if (tensor.offset < end) fail(`tensor "${tensor.name}" overlaps another`);
    if (tensor.offset > end) fail(`there is a hole before tensor "${tensor.name}"`);
    end = tensor.offset + tensor.length;
  }
  if (end !== fileBytes) fail(`${fileBytes - end} bytes follow the last tensor`);
}
