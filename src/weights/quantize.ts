/** Floats → small integers, for linear layers. */

export interface Int8Matrix {
  /** [in, out]: transposed, as a matrix product wants its right side. */
  values: Int8Array;
  /** What each output's column must be multiplied by. [out] */
  scale: Float32Array;
}

/** Rows that are transposed together: each column of the block is one copy of this many bytes. */
const blockRows = 64;

/**
 * A weight [out, in] as 8-bit integers, symmetric with one scale for each output.
 *
 * @param limit the largest magnitude: 127, or 63 where the processor's products of bytes saturate
 */
export function quantizeInt8(
  weight: Float32Array,
  outFeatures: number,
  inFeatures: number,
  limit: 127 | 63,
): Int8Matrix {
  const values = new Int8Array(outFeatures * inFeatures);
  const scale = new Float32Array(outFeatures);
  const block = new Int8Array(blockRows * inFeatures); // [in, blockRows]
  for (let first = 0; first < outFeatures; first += blockRows) {
    const rows = Math.min(blockRows, outFeatures - first);
    for (let row = 0; row < rows; row++) {
      const start = (first + row) * inFeatures;
      const largest = largestMagnitude(weight, start, start + inFeatures);
      scale[first + row] = largest / limit;
      const inverse = largest === 0 ? 0 : Math.fround(limit / largest);
      for (let column = 0; column < inFeatures; column++) {
        // Rounds to the nearest: truncation is floor while the number is positive, and much faster than Math.round.
        block[column * blockRows + row] = Math.trunc(weight[start + column]! * inverse + 128.5) - 128;
      }
    }
    for (let column = 0; column < inFeatures; column++) {
      const start = column * blockRows;
      values.set(block.subarray(start, start + rows), column * outFeatures + first);
    }
  }
  return { values, scale };
}

function largestMagnitude(values: Float32Array, start: number, end: number): number {
  let largest = 0;
  for (let i = start; i < end; i++) {
    const magnitude = Math.abs(values[i]!);
    if (magnitude > largest) largest = magnitude;
  }
  return largest;
}
