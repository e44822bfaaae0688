import { expect, test } from "vitest";
import { halfToFloat, transposedHalves } from "./half-float.ts";

test("a matrix becomes float16, transposed, each value rounded to the nearest", () => {
  const [rows, columns] = [67, 5]; // more than one block of rows, and not a whole one at the end
  const values = Float32Array.from({ length: rows * columns }, (_, i) => Math.sin(i * i) * 2 ** ((i % 30) - 15));
  const halves = transposedHalves(values, rows, columns)!;
  const bits = new Uint16Array(halves.buffer);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const half = halfToFloat[bits[column * rows + row]!]!;
      const value = values[row * columns + column]!;
      // Half a unit of the last of eleven bits; below 2 ** -14 the units stay as they are.
      expect(Math.abs(half - value)).toBeLessThanOrEqual(Math.max(Math.abs(value), 2 ** -14) * 2 ** -11);
    }
  }
});

test.each([65_505, -65_505, Infinity, -Infinity])("%d is beyond float16", (value) => {
  expect(transposedHalves(new Float32Array([1, value, 2, 3]), 2, 2)).toBeUndefined();
});

test("the largest float16, the smallest, and no number at all are kept", () => {
  const halves = transposedHalves(new Float32Array([65_504, -65_504, 2 ** -24, NaN]), 1, 4);
  expect([...halves!]).toEqual([65_504, -65_504, 2 ** -24, NaN]);
});
