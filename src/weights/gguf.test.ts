import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, describe, expect, it } from "vitest";
import { ggufFile, type GgufParts, ggufText, uint32, uint64 } from "../../tests/support/weight-files.ts";
import { WeightsInvalidError } from "../errors.ts";
import { isGguf, readGgufHeader } from "./gguf.ts";

const fixture = join(import.meta.dirname, "../../tests/fixtures/formats/blocks.gguf");
const dir = mkdtempSync(join(tmpdir(), "easel-gguf-"));
afterAll(() => rmSync(dir, { recursive: true }));

function write(bytes: Uint8Array): string {
  const path = join(dir, "file.gguf");
  writeFileSync(path, bytes);
  return path;
}

function file(parts: GgufParts): string {
  return write(ggufFile(parts));
}

const tensor = { name: "a", dims: [32], type: 0, offset: 0 };
const alignmentPair = (alignment: number) =>
  Buffer.concat([ggufText("general.alignment"), uint32(4), uint32(alignment)]);

const pair = (type: number, ...value: Buffer[]) => Buffer.concat([ggufText("key"), uint32(type), ...value]);

describe("a GGUF header", () => {
  it("gives what gguf-py wrote: architecture, and each tensor's encoding, shape and place", () => {
    const { architecture, tensors } = readGgufHeader(fixture);
    expect(architecture).toBe("flux");
    expect([...tensors.keys()].join(" ")).toBe("F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K");
    for (const { shape } of tensors.values()) expect(shape).toEqual([5, 512]);
    expect(tensors.get("Q4_K")).toMatchObject({ encoding: "q4_k", ranges: [{ length: 10 * 144 }] });
  });

  it("may have version 2, an alignment of its own, and padding between tensors", () => {
    const path = file({
      version: 2,
      pairs: [alignmentPair(64)],
      alignment: 64,
      tensors: [
        { name: "b", dims: [4, 2], type: 0, offset: 64 },
        { name: "a", dims: [3], type: 1, offset: 0 },
      ],
      dataBytes: 96,
    });
    const { tensors, architecture } = readGgufHeader(path);
    expect(architecture).toBeUndefined();
    expect(tensors.get("b")?.shape).toEqual([2, 4]);
    expect(tensors.get("b")!.ranges[0]!.offset - tensors.get("a")!.ranges[0]!.offset).toBe(64);
  });

  it("is recognised by its first bytes", () => {
    expect(isGguf(fixture)).toBe(true);
    expect(isGguf(write(Buffer.from("GGU")))).toBe(false);
    expect(() => isGguf(join(dir, "missing"))).toThrow(WeightsInvalidError);
  });

  const refusals: [what: string, path: () => string, message: RegExp][] = [
    ["a missing file", () => join(dir, "missing"), /cannot be opened/],
    ["a folder", () => dir, /not a file/],
    ["an empty file", () => write(new Uint8Array()), /longer than the file/],
    ["another magic", () => file({ magic: "GGML" }), /does not begin with GGUF/],
    ["version 1", () => file({ version: 1 }), /version 1; 2 and 3/],
    ["a big-endian file", () => file({ version: 0x03000000 }), /version 50331648/],
    ["a truncated file", () => file({ tensors: [tensor], dataBytes: 127 }), /"a" lies outside the file/],
    ["2^63 tensors", () => file({ tensorCount: 1n << 63n }), /number of tensors is 9223372036854775808/],
    ["more tensors than fit", () => file({ tensorCount: 5_000_000_000 }), /claims 5000000000 tensors/],
    ["more pairs than fit", () => file({ pairCount: 1_000_000 }), /claims 1000000 key-value pairs/],
    ["fewer tensors than it claims", () => file({ tensorCount: 1, dataBytes: 24 }), /lies outside/],
    [
      "a key of 2^40 bytes",
      () => file({ pairs: [uint64(2 ** 40)], dataBytes: 99 }),
      /a key is 1099511627776 bytes long/,
    ],
    ["a text longer than the file", () => file({ pairs: [pair(8, uint64(1000))] }), /header is longer than the file/],
    ["a list longer than the file", () => file({ pairs: [pair(9, uint32(4), uint64(2 ** 50))] }), /items of "key"/],
    ["texts that run out", () => file({ pairs: [pair(9, uint32(8), uint64(1), uint64(9))] }), /longer than the file/],
    ["a list of lists", () => file({ pairs: [pair(9, uint32(9), uint64(0))] }), /list of the unknown type 9/],
    ["an unknown type of value", () => file({ pairs: [pair(13)] }), /"key" has the unknown type 13/],
    ["an alignment of 0", () => file({ pairs: [alignmentPair(0)] }), /alignment is 0/],
    ["an unknown type of tensor", () => file({ tensors: [{ ...tensor, type: 16 }] }), /"a" has the type 16/],
    ["a type beyond all", () => file({ tensors: [{ ...tensor, type: 0xffffffff }] }), /has the type 4294967295/],
    ["five dimensions", () => file({ tensors: [{ ...tensor, dims: [1, 1, 1, 1, 1] }] }), /5 dimensions/],
    [
      "a scalar that the file has no room for",
      () => file({ tensors: [{ ...tensor, dims: [] }], pairs: [] }),
      /outside the file/,
    ],
    [
      "a shape that overflows",
      () => file({ tensors: [{ ...tensor, dims: [2 ** 40, 2 ** 40] }] }),
      /cannot have the shape/,
    ],
    ["rows that cut a block", () => file({ tensors: [{ ...tensor, type: 8, dims: [16, 2] }] }), /\[2, 16\] as q8_0/],
    ["an unaligned tensor", () => file({ tensors: [{ ...tensor, offset: 8 }], dataBytes: 200 }), /not aligned to 32/],
    ["an offset beyond the file", () => file({ tensors: [{ ...tensor, offset: 2 ** 52 }] }), /outside the file/],
    ["an offset beyond numbers", () => file({ tensors: [{ ...tensor, offset: 1n << 60n }] }), /offset of tensor "a"/],
    [
      "overlapping tensors",
      () => file({ tensors: [tensor, { ...tensor, name: "b", offset: 96 }], dataBytes: 224 }),
      /"b" overlaps/,
    ],
    [
      "one range for two tensors",
      () => file({ tensors: [tensor, { ...tensor, name: "b" }], dataBytes: 128 }),
      /overlaps/,
    ],
    [
      "one name for two tensors",
      () => file({ tensors: [tensor, { ...tensor, offset: 128 }], dataBytes: 256 }),
      /two tensors named "a"/,
    ],
  ];
  it.each(refusals)("is refused for %s", (_what, path, message) => {
    const refused = path();
    expect(() => readGgufHeader(refused)).toThrow(WeightsInvalidError);
    expect(() => readGgufHeader(refused)).toThrow(message);
  });

  const original = readFileSync(fixture).subarray(0, 2000);
  it("never fails in another way, whichever of its bytes are changed or cut off", () => {
    const damage = fc.record({
      at: fc.integer({ min: 4, max: 1200 }),
      bytes: fc.uint8Array({ minLength: 1, maxLength: 9 }),
      end: fc.integer({ min: 0, max: 2000 }),
    });
    fc.assert(
      fc.property(damage, ({ at, bytes, end }) => {
        const damaged = Buffer.from(original);
        damaged.set(bytes, at);
        const path = write(damaged.subarray(0, end));
        try {
          readGgufHeader(path);
        } catch (error) {
          if (!(error instanceof WeightsInvalidError)) throw error;
        }
      }),
      { numRuns: 500 },
    );
  });
});
