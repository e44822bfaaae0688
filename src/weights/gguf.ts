/**
 * Reads the header of a GGUF file, version 2 or 3: counts, key-value pairs, one entry a tensor, then the tensors' bytes
 * (https://github.com/ggml-org/ggml/blob/master/docs/gguf.md). Nothing in the header is trusted before it has been checked
 * against the file, and memory grows with what was read, never with what a count claims.
 */
import { closeSync, fstatSync, openSync, realpathSync } from "node:fs";
import { basename } from "node:path";
import { WeightsInvalidError } from "../errors.ts";
import { readExactly } from "./read-exactly.ts";
import { encodedBytes, type Encoding, encodings, type TensorLocation, valueCount } from "./tensor-location.ts";

/** Far above any published file's header, tokenizer included; the same as safetensors' limit. */
const maxHeaderBytes = 100_000_000;
/** The format's own limit for a key; names are far shorter. */
const maxTextBytes = 65_535;
const maxDimensions = 4;

/** ggml_type, by number. */
const encodingOfType: readonly (Encoding | undefined)[] = Object.assign(
  Array<Encoding | undefined>(31).fill(undefined),
  {
    0: "float32",
    1: "float16",
    2: "q4_0",
    3: "q4_1",
    6: "q5_0",
    7: "q5_1",
    8: "q8_0",
    10: "q2_k",
    11: "q3_k",
    12: "q4_k",
    13: "q5_k",
    14: "q6_k",
    26: "int32",
    27: "int64",
    30: "bfloat16",
  },
);

/** gguf_metadata_value_type: bytes of the fixed-size ones; text is 8, a list 9. */
const scalarBytes: readonly (number | undefined)[] = [1, 1, 2, 2, 4, 4, 4, 1, undefined, undefined, 8, 8, 8];
const uint32Type = 4;
const textType = 8;
const listType = 9;

export interface GgufHeader {
  /** "flux", "t5encoder"…; undefined when the file does not say. */
  architecture: string | undefined;
  /** Shapes as torch has them, the outermost axis first. */
  tensors: Map<string, TensorLocation>;
}

/** Whether a file begins as GGUF files do. */
export function isGguf(path: string): boolean {
  const magic = Buffer.alloc(4);
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (cause) {
    throw new WeightsInvalidError(`${basename(path)} cannot be opened.`, { cause });
  }
  try {
    return fstatSync(fd).isFile() && readExactly(fd, 0, magic) && magic.toString("latin1") === "GGUF";
  } finally {
    closeSync(fd);
  }
}

/** @throws WeightsInvalidError when the file is not a well-formed GGUF file or has a tensor of a type Easel cannot read. */
export function readGgufHeader(path: string): GgufHeader {
  const fail: Fail = (problem) => {
    throw new WeightsInvalidError(`${basename(path)} is not a usable GGUF file: ${problem}.`);
  };
  let fd: number;
  try {
    fd = openSync(path, "r");
  } catch (cause) {
    throw new WeightsInvalidError(`${basename(path)} cannot be opened.`, { cause });
  }
  try {
    const stat = fstatSync(fd);
    if (!stat.isFile()) fail("it is not a file");
    return parseHeader(new HeaderCursor(fd, stat.size, fail), realpathSync(path), fail);
  } finally {
    closeSync(fd);
  }
}

type Fail = (problem: string) => never;

function parseHeader(cursor: HeaderCursor, file: string, fail: Fail): GgufHeader {
  if (cursor.take(4).toString("latin1") !== "GGUF") fail("it does not begin with GGUF");
  const version = cursor.uint32();
  if (version !== 2 && version !== 3) fail(`it has version ${version}; 2 and 3 are supported`);
  const tensorCount = cursor.count("tensors", 24);
  const pairCount = cursor.count("key-value pairs", 13);

  let architecture: string | undefined;
  let alignment = 32;
  for (let i = 0; i < pairCount; i++) {
    const key = cursor.text("a key");
    const type = cursor.uint32();
    if (key === "general.architecture" && type === textType) architecture = cursor.text(key);
    else if (key === "general.alignment" && type === uint32Type) alignment = cursor.uint32();
    else skipValue(cursor, type, key, fail);
  }
  if (alignment === 0 || alignment % 8 !== 0) fail(`its alignment is ${alignment}, not a multiple of 8`);

  const entries = new Map<string, Entry>();
  for (let i = 0; i < tensorCount; i++) {
    const entry = readEntry(cursor, fail);
    if (entries.has(entry.name)) fail(`it has two tensors named "${entry.name}"`);
    entries.set(entry.name, entry);
  }
  const dataStart = Math.ceil(cursor.position / alignment) * alignment;

  const tensors = new Map<string, TensorLocation>();
  for (const { name, encoding, shape, offset, length } of entries.values()) {
    if (offset % alignment !== 0) fail(`tensor "${name}" is not aligned to ${alignment} bytes`);
    if (dataStart + offset + length > cursor.fileBytes) {
      fail(`tensor "${name}" lies outside the file (was the download cut off?)`);
    }
    tensors.set(name, { name, encoding, shape, file, ranges: [{ offset: dataStart + offset, length }] });
  }
  refuseOverlaps(entries, fail);
  return { architecture, tensors };
}

interface Entry {
  name: string;
  encoding: Encoding;
  shape: number[];
  /** Bytes from the start of the tensors' data. */
  offset: number;
  length: number;
}

function readEntry(cursor: HeaderCursor, fail: Fail): Entry {
  const name = cursor.text("a tensor's name");
  const dimensions = cursor.uint32();
  if (dimensions > maxDimensions) fail(`tensor "${name}" has ${dimensions} dimensions, more than ${maxDimensions}`);
  const shape = Array.from({ length: dimensions }, () => cursor.uint64(`a dimension of tensor "${name}"`)).toReversed();
  const type = cursor.uint32();
  const encoding = encodingOfType[type];
  if (encoding === undefined) {
    return fail(
      `tensor "${name}" has the type ${type}; F32, F16, BF16, Q8_0, Q4_0, Q4_1, Q5_0, Q5_1 and Q2_K to Q6_K are supported`,
    );
  }
  const offset = cursor.uint64(`the offset of tensor "${name}"`);
  const values = valueCount(shape);
  // Blocks run along the innermost axis and may not cross its end.
  const wholeRows = (shape.at(-1) ?? 1) % encodings[encoding].values === 0;
  const length = wholeRows && Number.isSafeInteger(values) ? encodedBytes(encoding, values) : undefined;
  if (length === undefined) return fail(`tensor "${name}" cannot have the shape [${shape.join(", ")}] as ${encoding}`);
  return { name, encoding, shape, offset, length };
}

/** Padding between tensors is the format's; a byte that belongs to two of them is the sign of a damaged or hostile file. */
function refuseOverlaps(entries: ReadonlyMap<string, Entry>, fail: Fail): void {
  const ordered = [...entries.values()].sort((a, b) => a.offset - b.offset || a.length - b.length);
  let end = 0;
  for (const { name, offset, length } of ordered) {
    if (offset < end) fail(`tensor "${name}" overlaps another`);
    end = offset + length;
  }
}

function skipValue(cursor: HeaderCursor, type: number, key: string, fail: Fail): void {
  const bytes = scalarBytes[type];
  if (bytes !== undefined) return cursor.skip(bytes);
  if (type === textType) return cursor.skip(cursor.uint64(`the length of "${key}"`));
  if (type !== listType) fail(`"${key}" has the unknown type ${type}`);
  const itemType = cursor.uint32();
  const itemBytes = scalarBytes[itemType];
  const items = cursor.count(`items of "${key}"`, itemBytes ?? 8);
  if (itemBytes !== undefined) return cursor.skip(items * itemBytes);
  // Lists of lists are allowed by the format and used by nobody: refusing them spares a recursion that a file could drive.
  if (itemType !== textType) fail(`"${key}" is a list of the unknown type ${itemType}`);
  for (let i = 0; i < items; i++) cursor.skip(cursor.uint64(`the length of an item of "${key}"`));
}

/** Reads a header from front to back through a small window. */
class HeaderCursor {
  position = 0;
  readonly fileBytes: number;
  readonly #fd: number;
  readonly #fail: Fail;
  readonly #window = Buffer.alloc(maxTextBytes + 1);
  #windowStart = 0;
  #windowBytes = 0;

  constructor(fd: number, fileBytes: number, fail: Fail) {
    this.#fd = fd;
    this.fileBytes = fileBytes;
    this.#fail = fail;
  }

  /** The next `length` bytes, at most as many as the window holds; valid until the next call. */
  take(length: number): Buffer {
    const start = this.position;
    this.skip(length);
    if (start < this.#windowStart || this.position > this.#windowStart + this.#windowBytes) {
      this.#windowStart = start;
      this.#windowBytes = Math.min(this.#window.length, this.fileBytes - start);
      const filled = readExactly(this.#fd, start, this.#window.subarray(0, this.#windowBytes));
      if (!filled) this.#fail("it cannot be read to its end");
    }
    const at = start - this.#windowStart;
    return this.#window.subarray(at, at + length);
  }

  skip(length: number): void {
    this.position += length;
    if (this.position > this.fileBytes) this.#fail("its header is longer than the file (was the download cut off?)");
    if (this.position > maxHeaderBytes) this.#fail(`its header is longer than ${maxHeaderBytes / 1e6} MB`);
  }

  uint32(): number {
    return this.take(4).readUInt32LE();
  }

  uint64(what: string): number {
    const value = this.take(8).readBigUInt64LE();
    if (value > BigInt(Number.MAX_SAFE_INTEGER)) this.#fail(`${what} is ${value}`);
    return Number(value);
  }

  /** How many things of at least `leastBytes` each follow. */
  count(what: string, leastBytes: number): number {
    const value = this.uint64(`its number of ${what}`);
    if (value * leastBytes > this.fileBytes - this.position) {
      this.#fail(`it claims ${value} ${what}, more than the file has room for`);
    }
    return value;
  }

  text(what: string): string {
    const length = this.uint64(`the length of ${what}`);
    if (length > maxTextBytes) this.#fail(`${what} is ${length} bytes long`);
    return this.take(length).toString("utf8");
  }
}
