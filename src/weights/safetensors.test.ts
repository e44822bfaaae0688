import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import * as fc from "fast-check";
import { WeightsInvalidError } from "../errors.ts";
import { readSafetensorsHeader, readSafetensorsMetadata } from "./safetensors.ts";

const dir = mkdtempSync(join(tmpdir(), "easel-safetensors-"));
afterAll(() => rmSync(dir, { recursive: true }));

function write(bytes: Uint8Array): string {
  const path = join(dir, "file.safetensors");
  writeFileSync(path, bytes);
  return path;
}

function file(header: unknown, dataBytes: number, headerLength?: bigint): string {
  const text = Buffer.from(typeof header === "string" ? header : JSON.stringify(header));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(headerLength ?? BigInt(text.length));
  return write(Buffer.concat([prefix, text, Buffer.alloc(dataBytes)]));
}

const tensor = (begin: number, end: number, extra: object = {}) => ({
  dtype: "F32",
  shape: [(end - begin) / 4],
  data_offsets: [begin, end],
  ...extra,
});

describe("a safetensors header", () => {
  it("gives each tensor's type, shape and place in the file", () => {
    const header = {
      __metadata__: { format: "pt" },
      a: tensor(0, 8),
      b: { dtype: "BF16", shape: [2, 1], data_offsets: [8, 12] },
    };
    const tensors = readSafetensorsHeader(file(header, 12));
    const dataStart = 8 + JSON.stringify(header).length;
    expect(tensors.get("a")).toMatchObject({
      encoding: "float32",
      shape: [2],
      ranges: [{ offset: dataStart, length: 8 }],
    });
    expect(tensors.get("b")).toMatchObject({
      encoding: "bfloat16",
      shape: [2, 1],
      ranges: [{ offset: dataStart + 8, length: 4 }],
    });
    expect(tensors.size).toBe(2);
  });

  it("may describe scalars and empty tensors", () => {
    const header = {
      scalar: { dtype: "F16", shape: [], data_offsets: [0, 2] },
      empty: { dtype: "F32", shape: [0, 4], data_offsets: [2, 2] },
    };
    expect(readSafetensorsHeader(file(header, 2)).size).toBe(2);
  });

  it("may describe 8-bit floats and bookkeeping integers", () => {
    const header = {
      w: { dtype: "F8_E4M3", shape: [3], data_offsets: [0, 3] },
      v: { dtype: "F8_E5M2", shape: [1], data_offsets: [3, 4] },
      position_ids: { dtype: "I64", shape: [1, 2], data_offsets: [4, 20] },
    };
    const tensors = readSafetensorsHeader(file(header, 20));
    expect([...tensors.values()].map((t) => t.encoding)).toEqual(["float8_e4m3", "float8_e5m2", "int64"]);
  });

  it("may carry texts about itself", () => {
    const path = file({ __metadata__: { format: "pt", count: 3 } }, 0);
    expect([...readSafetensorsMetadata(path)]).toEqual([["format", "pt"]]);
    expect(readSafetensorsMetadata(file({ __metadata__: null }, 0)).size).toBe(0);
  });

  const refusals: [what: string, path: () => string, message: RegExp][] = [
    ["a folder", () => dir, /not a file/],
    ["an empty file", () => write(new Uint8Array()), /shorter than 8 bytes/],
    ["a header length of 2^63", () => file({}, 0, 1n << 63n), /100 MB/],
    ["a header just over the format's limit", () => file({}, 0, 100_000_001n), /100 MB/],
    ["a header longer than the file", () => file({}, 0, 1000n), /longer than the file/],
    ["a truncated file", () => file({ a: tensor(0, 8) }, 4), /"a" lies outside the file/],
    ["a header that is not JSON", () => file("{oops", 0), /not JSON/],
    ["a header that is not UTF-8", () => write(Buffer.from([1, 0, 0, 0, 0, 0, 0, 0, 0xff])), /not JSON/],
    ["a header that is a list", () => file([], 0), /not an object/],
    ["overlapping tensors", () => file({ a: tensor(0, 8), b: tensor(4, 12) }, 12), /"b" overlaps/],
    ["one range for two tensors", () => file({ a: tensor(0, 8), b: tensor(0, 8) }, 8), /overlaps/],
    ["a hole between tensors", () => file({ a: tensor(0, 4), b: tensor(8, 12) }, 12), /hole before tensor "b"/],
    ["bytes after the last tensor", () => file({ a: tensor(0, 4) }, 8), /4 bytes follow/],
    ["offsets that run backwards", () => file({ a: tensor(8, 4, { shape: [1] }) }, 8), /outside the file/],
    [
      "negative offsets",
      () => file({ a: { dtype: "F32", shape: [1], data_offsets: [-4, 0] } }, 4),
      /malformed offsets/,
    ],
    [
      "fractional offsets",
      () => file({ a: { dtype: "F32", shape: [1], data_offsets: [0.5, 4.5] } }, 8),
      /malformed offsets/,
    ],
    [
      "a shape that disagrees with the length",
      () => file({ a: tensor(0, 8, { shape: [3] }) }, 8),
      /needs 12 bytes but has 8/,
    ],
    ["a shape whose product overflows", () => file({ a: tensor(0, 8, { shape: [2 ** 40, 2 ** 40] }) }, 8), /needs/],
    ["a negative dimension", () => file({ a: tensor(0, 8, { shape: [-2] }) }, 8), /malformed shape/],
    ["an unknown element type", () => file({ a: tensor(0, 8, { dtype: "F64" }) }, 8), /type F64/],
    [
      "an element type named like a built-in property",
      () => file({ a: tensor(0, 8, { dtype: "constructor" }) }, 8),
      /type constructor/,
    ],
    ["a tensor without a description", () => file({ a: null }, 0), /no description/],
  ];
  it.each(refusals)("is refused for %s", (_what, path, message) => {
    const refused = path();
    expect(() => readSafetensorsHeader(refused)).toThrow(WeightsInvalidError);
    expect(() => readSafetensorsHeader(refused)).toThrow(message);
  });

  it("never fails in another way, whatever the bytes", () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 200 }), fc.integer({ min: 0, max: 220 }), (bytes, length) => {
        const prefix = Buffer.alloc(8);
        prefix.writeBigUInt64LE(BigInt(length));
        const path = write(Buffer.concat([prefix, bytes]));
        try {
          readSafetensorsHeader(path);
        } catch (error) {
          if (!(error instanceof WeightsInvalidError)) throw error;
        }
      }),
      { numRuns: 300 },
    );
  });

  it("never fails in another way, whichever bytes of a good file are changed or cut off", () => {
    const good = JSON.stringify({
      __metadata__: { format: "pt" },
      a: tensor(0, 8),
      b: { dtype: "BF16", shape: [2, 1], data_offsets: [8, 12] },
    });
    const whole = Buffer.concat([Buffer.from([good.length, 0, 0, 0, 0, 0, 0, 0]), Buffer.from(good), Buffer.alloc(12)]);
    const damage = fc.record({
      at: fc.integer({ min: 0, max: whole.length - 9 }),
      // What makes other headers of it; most other bytes make none.
      bytes: fc.string({ unit: fc.constantFrom(...'0123456789[]{}",:-\u0000'), minLength: 1, maxLength: 9 }),
      end: fc.oneof(fc.constant(whole.length), fc.integer({ min: 0, max: whole.length })),
    });
    fc.assert(
      fc.property(damage, ({ at, bytes, end }) => {
        const damaged = Buffer.from(whole);
        damaged.set(Buffer.from(bytes), at);
        try {
          for (const { ranges } of readSafetensorsHeader(write(damaged.subarray(0, end))).values()) {
            expect(ranges[0]!.offset + ranges[0]!.length).toBeLessThanOrEqual(end);
          }
        } catch (error) {
          if (!(error instanceof WeightsInvalidError)) throw error;
        }
      }),
      { numRuns: 500 },
    );
  });
});
