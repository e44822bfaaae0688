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

export interface Int4Matrix {
  /** [out, blocks, int4Block / 2]: two codes a byte, the earlier one low; a code is the value plus 8. */
  values: Uint8Array;
  /** What each block's values must be multiplied by. [out · blocks] */
  scale: Float32Array;
}

/** Values along a row that share a scale. */
export const int4Block = 32;

/**
 * A weight [out, in] as 4-bit integers from −8 to 7, with one scale for each `int4Block` values of a row. The scale takes the
 * sign that lets the largest value be −8, as in GGUF's Q4_0, so that no code is wasted; a last short block is filled with zeros.
 */
export function quantizeInt4(weight: Float32Array, outFeatures: number, inFeatures: number): Int4Matrix {
  const blocks = Math.ceil(inFeatures / int4Block);
  const values = new Uint8Array((outFeatures * blocks * int4Block) / 2);
  const scale = new Float32Array(outFeatures * blocks);
  const codes = new Uint8Array(int4Block);
  let block = 0;
  for (let row = 0; row < outFeatures; row++) {
    const end = (row + 1) * inFeatures;
    for (let start = row * inFeatures; start < end; start += int4Block, block++) {
      const length = Math.min(int4Block, end - start);
      let extreme = 0; // the value of the largest magnitude
      for (let i = start; i < start + length; i++) {
        const value = weight[i]!;
        if (Math.abs(value) > Math.abs(extreme)) extreme = value;
      }
      scale[block] = extreme / -8;
      const inverse = extreme === 0 ? 0 : -8 / extreme;
      codes.fill(8);
      for (let i = 0; i < length; i++) codes[i] = Math.min(15, Math.trunc(weight[start + i]! * inverse + 8.5));
      const at = (block * int4Block) / 2;
      for (let i = 0; i < int4Block / 2; i++) values[at + i] = codes[2 * i]! | (codes[2 * i + 1]! << 4);
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
