/** Floats → small integers, for linear layers. */

export interface Int8Matrix {
  /** [in, out]: transposed, as a matrix product wants its right side. */
  values: Int8Array;
  /** What each output's column must be multiplied by. [out] */
  scale: Float32Array;
}

/** Rows that are transposed together, so that writes stay near each other. */
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
  const inverse = new Float32Array(outFeatures);
  for (let row = 0; row < outFeatures; row++) {
    let largest = 0;
    for (let i = row * inFeatures; i < (row + 1) * inFeatures; i++) largest = Math.max(largest, Math.abs(weight[i]!));
    scale[row] = largest / limit;
    inverse[row] = largest === 0 ? 0 : limit / largest;
  }
  for (let first = 0; first < outFeatures; first += blockRows) {
    const end = Math.min(first + blockRows, outFeatures);
    for (let column = 0; column < inFeatures; column++) {
      for (let row = first; row < end; row++) {
        values[column * outFeatures + row] = Math.round(weight[row * inFeatures + column]! * inverse[row]!);
      }
    }
  }
  return { values, scale };
}
