/**
 * ggml's "K" block quantizations: 256 values in a block, in groups of 16 or 32 with small integer scales of their own, under
 * one float16 scale. Layouts as ggml-common.h of llama.cpp has them, values to the last bit as gguf-py computes them.
 *
 * Every decoder takes whole blocks and writes their values to the start of `out`.
 */
import { readHalf } from "./half-float.ts";

/**
 * Blocks of 84 bytes: 16 group scales (low nibble: scale, high: minimum), 64 bytes of 2-bit values, d, dmin.
 * x = d s q − dmin m. A byte holds one bit pair for each of four groups of 32 values.
 */
export function decodeQ2K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 84, to += 256) {
    const d = readHalf(bytes, at + 80);
    const dmin = readHalf(bytes, at + 82);
    for (let group = 0; group < 16; group++) {
      const scales = bytes[at + group]!;
      const scale = d * (scales & 15);
      const minimum = dmin * (scales >> 4);
      const quants = at + 16 + twoBitBytes(group);
      const shift = twoBitShift(group);
      for (let i = 0; i < 16; i++) out[to + 16 * group + i] = scale * ((bytes[quants + i]! >> shift) & 3) - minimum;
    }
  }
}

/**
 * Blocks of 110 bytes: 32 bytes of third bits, 64 bytes of low bit pairs, 12 bytes of sixteen 6-bit group scales, d.
 * x = d (s − 32) q, where q is the bit pair, less 4 unless the third bit is set.
 */
export function decodeQ3K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 110, to += 256) {
    const d = readHalf(bytes, at + 108);
    for (let group = 0; group < 16; group++) {
      const low = bytes[at + 96 + (group & 7)]! >> (group < 8 ? 0 : 4);
      const high = bytes[at + 104 + (group & 3)]! >> (2 * (group >> 2));
      const scale = d * (((low & 15) | ((high & 3) << 4)) - 32);
      const quants = at + 32 + twoBitBytes(group);
      const shift = twoBitShift(group);
      const thirds = at + 16 * (group & 1);
      const third = group >> 1; // which bit of the third bits' bytes
      for (let i = 0; i < 16; i++) {
        const pair = (bytes[quants + i]! >> shift) & 3;
        out[to + 16 * group + i] = scale * ((bytes[thirds + i]! >> third) & 1 ? pair : pair - 4);
      }
    }
  }
}

/**
 * Blocks of 144 bytes: d, dmin, 12 bytes of 6-bit scales and minima for eight groups, 128 bytes of nibbles.
 * x = d s q − dmin m. Each 32 bytes hold two groups, the first in the low nibbles.
 */
export function decodeQ4K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 144, to += 256) {
    const d = readHalf(bytes, at);
    const dmin = readHalf(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = d * sixBitScale(bytes, at + 4, group);
      const minimum = dmin * sixBitMinimum(bytes, at + 4, group);
      const quants = at + 16 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let i = 0; i < 32; i++) out[to + 32 * group + i] = scale * ((bytes[quants + i]! >> shift) & 15) - minimum;
    }
  }
}

/** Blocks of 176 bytes: as Q4_K, with 32 bytes of fifth bits before the nibbles: bit g of byte i is for value i of group g. */
export function decodeQ5K(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 176, to += 256) {
    const d = readHalf(bytes, at);
    const dmin = readHalf(bytes, at + 2);
    for (let group = 0; group < 8; group++) {
      const scale = d * sixBitScale(bytes, at + 4, group);
      const minimum = dmin * sixBitMinimum(bytes, at + 4, group);
      const quants = at + 48 + 32 * (group >> 1);
      const shift = 4 * (group & 1);
      for (let i = 0; i < 32; i++) {
        const fifth = (bytes[at + 16 + i]! >> group) & 1;
        out[to + 32 * group + i] = scale * (((bytes[quants + i]! >> shift) & 15) | (fifth << 4)) - minimum;
      }
    }
  }
}

/**
 * Blocks of 210 bytes: 128 bytes of nibbles, 64 bytes of upper bit pairs, 16 signed group scales, d. x = d s (q − 32).
 * Each half of a block, 128 values, has 64 bytes of nibbles (low nibbles first) and 32 bytes of pairs.
 */
export function decodeQ6K(bytes: Uint8Array, out: Float32Array): void {
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0, to = 0; at < bytes.length; at += 210, to += 256) {
    const d = readHalf(bytes, at + 208);
    for (let group = 0; group < 16; group++) {
      const scale = d * signed[at + 192 + group]!;
      const first = 16 * (group & 7); // of the group's values in its half
      const nibbles = at + 64 * (group >> 3) + (first & 63);
      const nibbleShift = first < 64 ? 0 : 4;
      const pairs = at + 128 + 32 * (group >> 3) + (first & 31);
      const pairShift = 2 * (first >> 5);
      for (let i = 0; i < 16; i++) {
        const low = (bytes[nibbles + i]! >> nibbleShift) & 15;
        const high = (bytes[pairs + i]! >> pairShift) & 3;
        out[to + 16 * group + i] = scale * ((low | (high << 4)) - 32);
      }
    }
  }
}

/** Where the 2-bit values of one of 16 groups start: 32 bytes serve the 128 values of a block's half. */
function twoBitBytes(group: number): number {
  return 32 * (group >> 3) + 16 * (group & 1);
}

function twoBitShift(group: number): number {
  return 2 * ((group >> 1) & 3);
}

/**
 * Scale of one of eight groups, packed in 12 bytes: the first four in the low bits of bytes 0–3; of the others, the low nibble
 * in bytes 8–11 and the two upper bits in the upper bits of bytes 0–3.
 */
function sixBitScale(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return bytes[at + group]! & 63;
  return (bytes[at + 4 + group]! & 15) | ((bytes[at + group - 4]! >> 6) << 4);
}

/** As `sixBitScale`, for the minima: bytes 4–7, the high nibbles of bytes 8–11, the upper bits of bytes 4–7. */
function sixBitMinimum(bytes: Uint8Array, at: number, group: number): number {
  if (group < 4) return bytes[at + 4 + group]! & 63;
  return (bytes[at + 4 + group]! >> 4) | ((bytes[at + group]! >> 6) << 4);
}
