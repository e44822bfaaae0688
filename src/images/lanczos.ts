/**
 * Resampling by Lanczos' filter with three lobes, bit for bit as Pillow does it (`Image.resize(…, LANCZOS)`, libImaging/Resample.c).
 * sharp has that filter for reducing only: what it enlarges is bicubic, and half a pixel off.
 */
import type { GrayImage, RgbImage } from "./rgb-image.ts";

const lobes = 3;
/** Weights are whole numbers of 2⁻²², so that every machine rounds alike. */
const weightBits = 22;

/** `image` at another size. Blocks the thread: a second or so for a result of 4096 × 4096. */
export function lanczos<Image extends RgbImage | GrayImage>(image: Image, width: number, height: number): Image {
  const channels = image.pixels.length / (image.width * image.height);
  const wide = alongRows(image.pixels, channels, tapsFor(image.width, width), image.width, image.height);
  const pixels = alongColumns(wide, channels * width, tapsFor(image.height, height));
  return { ...image, width, height, pixels };
}

/** The pixels that one pixel of the result is made of, from `start` on. */
interface Taps {
  start: number;
  weights: Int32Array;
}

function tapsFor(size: number, newSize: number): Taps[] {
  const scale = size / newSize;
  // Reducing, the filter is stretched, so that every pixel has a say.
  const stretch = Math.max(1, scale);
  return Array.from({ length: newSize }, (_, i) => tapsAround((i + 0.5) * scale, stretch, size));
}

function tapsAround(centre: number, stretch: number, size: number): Taps {
  const start = Math.max(0, Math.trunc(centre - lobes * stretch + 0.5));
  const end = Math.min(size, Math.trunc(centre + lobes * stretch + 0.5));
  const shares = Array.from({ length: end - start }, (_, k) => filter((start + k + 0.5 - centre) / stretch));
  const sum = shares.reduce((a, b) => a + b, 0);
  return { start, weights: Int32Array.from(shares, (share) => roundAwayFromZero((share / sum) * 2 ** weightBits)) };
}

function filter(x: number): number {
  return Math.abs(x) >= lobes ? 0 : sinc(x) * sinc(x / lobes);
}

function sinc(x: number): number {
  return x === 0 ? 1 : Math.sin(Math.PI * x) / (Math.PI * x);
}

function roundAwayFromZero(x: number): number {
  return Math.trunc(x + Math.sign(x) / 2);
}

function alongRows(
  pixels: Uint8Array,
  channels: number,
  taps: Taps[],
  width: number,
  height: number,
): Uint8ClampedArray {
  const result = new Uint8ClampedArray(height * taps.length * channels);
  for (let y = 0, to = 0; y < height; y++) {
    for (const { start, weights } of taps) {
      for (let channel = 0; channel < channels; channel++, to++) {
        let sum = 2 ** (weightBits - 1);
        let from = (y * width + start) * channels + channel;
        for (let k = 0; k < weights.length; k++, from += channels) sum += pixels[from]! * weights[k]!;
        result[to] = sum >> weightBits;
      }
    }
  }
  return result;
}

/** `stride`: values in a row. */
function alongColumns(pixels: Uint8ClampedArray, stride: number, taps: Taps[]): Uint8Array {
  const result = new Uint8ClampedArray(taps.length * stride);
  const sums = new Int32Array(stride);
  for (const [y, { start, weights }] of taps.entries()) {
    sums.fill(2 ** (weightBits - 1));
    for (let k = 0; k < weights.length; k++) {
      const row = (start + k) * stride;
      const weight = weights[k]!;
      for (let i = 0; i < stride; i++) sums[i]! += pixels[row + i]! * weight;
    }
    for (let i = 0; i < stride; i++) result[y * stride + i] = sums[i]! >> weightBits;
  }
  return new Uint8Array(result.buffer);
}
