/**
 * PyTorch's CPU random numbers, bit for bit: `torch.Generator("cpu").manual_seed(seed)` and `torch.randn` in float32.
 *
 * A seed means a picture only if the noise is the same noise, so this follows ATen to the last rounding:
 * `core/MT19937RNGEngine.h` for the generator, `native/cpu/DistributionTemplates.h` for the Box-Muller transform and its
 * handling of the tail, and `native/cpu/avx_mathfun.h` (the Cephes polynomials) for log, sine and cosine as PyTorch's
 * AVX2 kernel computes them, with the fused multiply-adds that its compiler makes of them. PyTorch itself draws slightly
 * different last bits on processors without AVX2.
 */

const stateSize = 624;
const shiftSize = 397;

/** MT19937 as PyTorch seeds it: with the low 32 bits of `seed`, a non-negative safe integer. */
export class Mt19937 {
  readonly #state = new Uint32Array(stateSize);
  #next = stateSize;

  constructor(seed: number) {
    const state = this.#state;
    state[0] = seed % 2 ** 32;
    for (let i = 1; i < stateSize; i++) {
      const previous = state[i - 1]!;
      state[i] = Math.imul(1812433253, previous ^ (previous >>> 30)) + i;
    }
  }

  /** The next 32 bits, as an unsigned integer. */
  nextUint32(): number {
    if (this.#next === stateSize) this.#twist();
    let y = this.#state[this.#next++]!;
    y ^= y >>> 11;
    y ^= (y << 7) & 0x9d2c5680;
    y ^= (y << 15) & 0xefc60000;
    return (y ^ (y >>> 18)) >>> 0;
  }

  #twist(): void {
    const state = this.#state;
    for (let i = 0; i < stateSize; i++) {
      const low = state[i + 1 < stateSize ? i + 1 : 0]!;
      const far = state[i + shiftSize < stateSize ? i + shiftSize : i + shiftSize - stateSize]!;
      const mixed = (state[i]! & 0x80000000) | (low & 0x7fffffff);
      state[i] = far ^ (mixed >>> 1) ^ (low & 1 ? 0x9908b0df : 0);
    }
    this.#next = 0;
  }
}

/** `torch.Generator("cpu").manual_seed(seed)`, as far as drawing normals goes. `seed` is in [0, 2^53 − 1]. */
export class TorchGenerator {
  readonly #generator: Mt19937;

  constructor(seed: number) {
    this.#generator = new Mt19937(seed);
  }

  /** `torch.randn(length, generator=self)`, float32; each call goes on where the last one ended. */
  randn(length: number): Float32Array {
    const values = new Float32Array(length);
    if (length < 16) {
      fillFewNormals(values, this.#generator);
      return values;
    }
    fillUniforms(values, this.#generator);
    for (let start = 0; start + 16 <= length; start += 16) boxMuller16(values, start);
    if (length % 16 !== 0) {
      // The last 16 values are drawn anew, over some that were already normal.
      const tail = values.subarray(length - 16);
      fillUniforms(tail, this.#generator);
      boxMuller16(tail, 0);
    }
    return values;
  }
}

/** Uniform in [0, 1) with the 24 bits that a float32 can hold. */
function fillUniforms(values: Float32Array, generator: Mt19937): void {
  for (let i = 0; i < values.length; i++) values[i] = (generator.nextUint32() & 0xffffff) / 2 ** 24;
}

/** Fewer than 16 values are computed in double precision, two at a time. */
function fillFewNormals(values: Float32Array, generator: Mt19937): void {
  for (let i = 0; i < values.length; i += 2) {
    const u1 = uniformDouble(generator);
    const u2 = uniformDouble(generator);
    const radius = Math.sqrt(-2 * Math.log1p(-u2));
    const theta = 2 * Math.PI * u1;
    values[i] = radius * Math.cos(theta);
    if (i + 1 < values.length) values[i + 1] = radius * Math.sin(theta);
  }
}

/** Uniform in [0, 1) with 53 bits of two draws, the high word first. */
function uniformDouble(generator: Mt19937): number {
  const high = generator.nextUint32() & 0x1fffff;
  return (high * 2 ** 32 + generator.nextUint32()) / 2 ** 53;
}

const fround = Math.fround;
const twoPi = fround(2 * Math.PI);

/** Turns 16 uniforms at `start` into normals: value j pairs with value j + 8. */
function boxMuller16(values: Float32Array, start: number): void {
  for (let j = start; j < start + 8; j++) {
    const radius = fround(Math.sqrt(fround(-2 * log(fround(1 - values[j]!)))));
    const theta = fround(twoPi * values[j + 8]!);

    // Cephes: reduce theta to within π/4 of an even octant, then one polynomial each for sine and cosine.
    const octant = (Math.trunc(fround(theta * fourOverPi)) + 1) & ~1;
    let x = fma(octant, minusPi4A, theta);
    x = fma(octant, minusPi4B, x);
    x = fma(octant, minusPi4C, x);
    const z = fround(x * x);

    let c = fma(cos0, z, cos1);
    c = fma(c, z, cos2);
    c = fma(fround(c * z), z, -0.5 * z);
    c = fround(c + 1);

    let s = fma(sin0, z, sin1);
    s = fma(s, z, sin2);
    s = fma(fround(s * z), x, x);

    const swapped = (octant & 2) !== 0;
    const sine = (octant & 4) === 0 ? (swapped ? c : s) : -(swapped ? c : s);
    const cosine = ((octant - 2) & 4) !== 0 ? (swapped ? s : c) : -(swapped ? s : c);
    // Adding the mean, 0, makes every zero positive.
    values[j] = fround(radius * cosine) + 0;
    values[j + 8] = fround(radius * sine) + 0;
  }
}

const fourOverPi = fround(1.27323954473516);
const minusPi4A = -0.78515625;
const minusPi4B = fround(-2.4187564849853515625e-4);
const minusPi4C = fround(-3.774894977445941e-8);
const sin0 = fround(-1.9515295891e-4);
const sin1 = fround(8.3321608736e-3);
const sin2 = fround(-1.6666654611e-1);
const cos0 = fround(2.443315711809948e-5);
const cos1 = fround(-1.388731625493765e-3);
const cos2 = fround(4.166664568298827e-2);

const log0 = fround(7.0376836292e-2);
const log1 = fround(-1.151461031e-1);
const log2 = fround(1.167699874e-1);
const log3 = fround(-1.2420140846e-1);
const log4 = fround(1.4249322787e-1);
const log5 = fround(-1.6668057665e-1);
const log6 = fround(2.0000714765e-1);
const log7 = fround(-2.4999993993e-1);
const log8 = fround(3.3333331174e-1);
const ln2Low = fround(-2.1219444e-4);
const ln2High = 0.693359375;
const sqrtHalf = fround(Math.SQRT1_2);

const floatView = new Float32Array(1);
const bitsView = new Uint32Array(floatView.buffer);

/** The natural logarithm of a float32 in (0, 1], as Cephes has it. */
function log(value: number): number {
  floatView[0] = value;
  let exponent = (bitsView[0]! >>> 23) - 126;
  bitsView[0] = (bitsView[0]! & 0x7fffff) | 0x3f000000;
  const mantissa = floatView[0]!; // [0.5, 1)
  let x = fround(mantissa - 1);
  if (mantissa < sqrtHalf) {
    exponent -= 1;
    x = fround(x + mantissa);
  }

  const z = fround(x * x);
  let y = fma(log0, x, log1);
  y = fma(y, x, log2);
  y = fma(y, x, log3);
  y = fma(y, x, log4);
  y = fma(y, x, log5);
  y = fma(y, x, log6);
  y = fma(y, x, log7);
  y = fma(y, x, log8);
  y = fma(fround(y * x), z, fround(exponent * ln2Low));
  y = fma(z, -0.5, y);
  return fma(exponent, ln2High, fround(x + y));
}

/** a·b + c, rounded to float32 once. The product of two float32 is exact in double precision; their sum may not be, and
 * rounding it twice goes wrong only where the first rounding lands halfway between two float32. */
function fma(a: number, b: number, c: number): number {
  const product = a * b;
  const sum = product + c;
  const nearest = fround(sum);
  const difference = sum - nearest;
  if (difference === 0) return nearest;
  const other = nearest + 2 * difference;
  if (fround(other) !== other) return nearest;
  const part = sum - product;
  const lost = product - (sum - part) + (c - part);
  if (lost === 0) return nearest;
  return lost > 0 ? Math.max(nearest, other) : Math.min(nearest, other);
}
