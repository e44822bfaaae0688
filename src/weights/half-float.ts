/** Every float16 (IEEE 754 binary16) as float32, by its 16 bits: a look-up is the fastest conversion JavaScript has. */
export const halfToFloat: Float32Array = Float32Array.from({ length: 1 << 16 }, (_, bits) => {
  const mantissa = bits & 0x3ff;
  const exponent = (bits >> 10) & 0x1f;
  const sign = bits & 0x8000 ? -1 : 1;
  if (exponent === 0x1f) return mantissa === 0 ? sign * Number.POSITIVE_INFINITY : Number.NaN;
  return sign * (exponent === 0 ? mantissa * 2 ** -24 : (0x400 + mantissa) * 2 ** (exponent - 25));
});

/** The float16 at byte `at`, wherever it lies, as float32. */
export function readHalf(bytes: Uint8Array, at: number): number {
  return halfToFloat[bytes[at]! | (bytes[at + 1]! << 8)]!;
}
