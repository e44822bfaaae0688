/**
 * Reads the header of a safetensors file: 8 bytes of header length, a JSON header, then the tensors' bytes
 * (https://github.com/huggingface/safetensors#format). The tensors themselves are not read here: ONNX Runtime maps them, or
 * `readTensor` reads them one by one.
 * Nothing in the header is trusted before it has been checked against the file.
 */
import { closeSync, fstatSync, openSync, realpathSync } from "node:fs";
import { basename } from "node:path";
import { WeightsInvalidError } from "../errors.ts";
import { readExactly } from "./read-exactly.ts";
import { encodedBytes, type Encoding, type TensorLocation, valueCount } from "./tensor-location.ts";

/** The format's own limit for a header, 100 MB. */
const maxHeaderBytes = 100_000_000;

/** The format's element types that checkpoints of FLUX use. */
const dtypes: Readonly<Record<string, Encoding>> = {
  F32: "float32",
  F16: "float16",
  BF16: "bfloat16",
  F8_E4M3: "float8_e4m3",
  F8_E5M2: "float8_e5m2",
  I64: "int64",
  I32: "int32",
  U8: "uint8",
};

/**
 * The tensors of one file, by name.
 *
 * @throws WeightsInvalidError when the file is not a well-formed safetensors file, or a tensor has an element type
 *   that is not in `dtypes`.
 */
export function readSafetensorsHeader(path: string): Map<string, TensorLocation> {
  const fail = failOn(path);
  const { header, dataStart, fileBytes } = readHeader(path, fail);
  const dataBytes = fileBytes - dataStart;
  const file = realpathSync(path);

  const tensors = new Map<string, TensorLocation>();
  for (const [name, entry] of Object.entries(header)) {
    if (name === "__metadata__") continue;
    const { dtype, shape, begin, end } = parseEntry(entry, name, fail);
    const encoding = Object.hasOwn(dtypes, dtype) ? dtypes[dtype] : undefined;
    if (encoding === undefined) {
      return fail(`tensor "${name}" has the type ${dtype}; ${Object.keys(dtypes).join(", ")} are supported`);
    }
    if (begin > end || end > dataBytes) fail(`tensor "${name}" lies outside the file`);
    const expectedBytes = encodedBytes(encoding, valueCount(shape));
    if (expectedBytes !== end - begin) {
      fail(
        `tensor "${name}" of shape [${shape.join(", ")}] needs ${expectedBytes ?? "countless"} bytes but has ${end - begin}`,
      );
    }
    tensors.set(name, { name, encoding, shape, file, ranges: [{ offset: dataStart + begin, length: end - begin }] });
  }
  refuseOverlaps(tensors, dataStart, fileBytes, fail);
  return tensors;
}

/**
 * What a file says about itself: the texts under the header's `__metadata__`, or nothing.
 *
 * @throws WeightsInvalidError when the file has no readable header.
 */
export function readSafetensorsMetadata(path: string): ReadonlyMap<string, string> {
  const { header } = readHeader(path, failOn(path));
  const metadata: unknown = Object.entries(header).find(([name]) => name === "__metadata__")?.[1];
  if (typeof metadata !== "object" || metadata === null) return new Map();
  return new Map(Object.entries(metadata).filter((entry): entry is [string, string] => typeof entry[1] === "string"));
}

type Fail = (problem: string) => never;

function failOn(path: string): Fail {
  return (problem) => {
    throw new WeightsInvalidError(`${basename(path)} is not a usable safetensors file: ${problem}.`);
  };
}

function readHeader(path: string, fail: Fail): { header: object; dataStart: number; fileBytes: number } {
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (cause) {
    throw new WeightsInvalidError(`${basename(path)} cannot be opened.`, { cause });
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) fail("it is not a file");
    const fileBytes = stat.size;
    const prefix = Buffer.alloc(8);
    if (!readExactly(fd, 0, prefix)) fail("it is shorter than 8 bytes");
    const length = prefix.readBigUInt64LE(0);
    if (length > BigInt(maxHeaderBytes))
      fail(`its header claims ${length} bytes, more than the format's limit of 100 MB`);
    const headerBytes = Number(length);
    if (8 + headerBytes > fileBytes) fail("its header is longer than the file (was the download cut off?)");
    const text = Buffer.alloc(headerBytes);
    if (!readExactly(fd, 8, text)) fail("its header cannot be read");
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
  const ordered = [...tensors.values()]
    .map(({ name, ranges: [range] }) => ({ name, offset: range!.offset, length: range!.length }))
    .sort((a, b) => a.offset - b.offset || a.length - b.length);
  let end = dataStart;
  for (const { name, offset, length } of ordered) {
    if (offset < end) fail(`tensor "${name}" overlaps another`);
    if (offset > end) fail(`there is a hole before tensor "${name}"`);
    end = offset + length;
  }
  if (end !== fileBytes) fail(`${fileBytes - end} bytes follow the last tensor`);
}
