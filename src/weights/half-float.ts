/** Every float16 (IEEE 754 binary16) as float32, by its 16 bits: a look-up is the fastest conversion JavaScript has. */
export const halfToFloat: Float32Array = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const mantissa = bits & 0x3ff;
  const exponent = (bits >> 10) & 0x1f;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (0x400 + mantissa) * 2 ** (exponent - 25));
});

/** The largest finite float16. */
export const largestHalf = 65504;

/** Rows that are transposed together: each column of the block is one copy of this many values. */
const blockRows = 64;

/**
 * A matrix [rows, columns] as float16 [columns, rows], each value rounded to the nearest.
 *
 * @returns undefined when a value lies beyond what float16 holds, infinities among them
 */
export function transposedHalves(values: Float32Array, rows: number, columns: number): Float16Array | undefined {
  const halves = new Float16Array(values.length);
  const block = new Float16Array(blockRows * columns); // [columns, blockRows]
  for (let first = 0; first < rows; first += blockRows) {
    const height = Math.min(blockRows, rows - first);
    for (let row = 0; row < height; row++) {
      const start = (first + row) * columns;
      for (let column = 0; column < columns; column++) {
        const value = values[start + column]!;
        if (value > largestHalf || value < -largestHalf) return undefined;
        block[column * blockRows + row] = value;
      }
    }
    for (let column = 0; column < columns; column++) {
      const start = column * blockRows;
      halves.set(block.subarray(start, start + height), column * rows + first);
    }
  }
  return halves;
}

/** The float16 at byte `at`, wherever it lies, as float32. */
export function readHalf(bytes: Uint8Array, at: number): number {
  return halfToFloat[bytes[at]! | (bytes[at + 1]! << 8)]!;
}
