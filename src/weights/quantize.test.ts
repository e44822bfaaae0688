import * as fc from "fast-check";
import { describe, expect, it } from "vitest";
import { int4Block, quantizeInt4, quantizeInt8 } from "./quantize.ts";

const matrix = (rows: number, columns: number) =>
  fc
    .array(fc.float({ min: -100, max: 100, noNaN: true }), { minLength: rows * columns, maxLength: rows * columns })
    // Scales of numbers near the smallest float would not be floats any more.
    .map((values) => Float32Array.from(values, (value) => (Math.abs(value) < 1e-30 ? 0 : value)));
const sizes = fc.record({ rows: fc.integer({ min: 1, max: 70 }), columns: fc.integer({ min: 1, max: 70 }) });
const matrices = sizes.chain(({ rows, columns }) => matrix(rows, columns).map((weight) => ({ rows, columns, weight })));

/** float32 scales, and what rounding to the nearest may be off by. */
const halfStep = 0.5 + 1e-5;

describe("quantizing", () => {
  it.each([127, 63] as const)("to int8 is within half a step of each output's scale, in %i steps", (limit) => {
    fc.assert(
      fc.property(matrices, ({ rows, columns, weight }) => {
        const { values, scale } = quantizeInt8(weight, rows, columns, limit);
        for (let row = 0; row < rows; row++) {
          const magnitudes = weight.subarray(row * columns, (row + 1) * columns).map(Math.abs);
          expect(scale[row]).toBe(Math.fround(Math.max(...magnitudes) / limit));
          for (let column = 0; column < columns; column++) {
            const value = values[column * rows + row]!;
            expect(Math.abs(value)).toBeLessThanOrEqual(limit);
            const off = Math.abs(value * scale[row]! - weight[row * columns + column]!);
            expect(off).toBeLessThanOrEqual(halfStep * scale[row]!);
          }
        }
      }),
    );
  });

  it("to int4 is within half a step of each block's scale, or a whole one opposite its largest value", () => {
    fc.assert(
      fc.property(matrices, ({ rows, columns, weight }) => {
        const { values, scale } = quantizeInt4(weight, rows, columns);
        const blocks = Math.ceil(columns / int4Block);
        for (let row = 0; row < rows; row++) {
          for (let column = 0; column < columns; column++) {
            const block = row * blocks + Math.floor(column / int4Block);
            const place = column % int4Block;
            const byte = values[(block * int4Block) / 2 + (place >> 1)]!;
            const code = (place % 2 === 0 ? byte : byte >> 4) & 15;
            const exact = weight[row * columns + column]! / scale[block]!;
            if (Number.isNaN(exact)) continue; // a block of zeros
            const bound = exact > 7 ? 1 + 1e-5 : halfStep;
            expect(Math.abs(code - 8 - exact)).toBeLessThanOrEqual(bound);
          }
        }
      }),
    );
  });

  it("leaves zeros what they are", () => {
    expect(quantizeInt8(new Float32Array(6), 2, 3, 127).values).toEqual(new Int8Array(6));
    const { values, scale } = quantizeInt4(new Float32Array(6), 2, 3);
    expect(values.every((byte) => byte === 0x88)).toBe(true);
    expect(scale.every((value) => value === 0)).toBe(true);
  });
});
