/**
 * ggml's simple block quantizations: 32 values share a scale, and in the _1 types a minimum, both float16. Layouts as
 * ggml-common.h of llama.cpp has them, values to the last bit as gguf-py computes them.
 *
 * Every decoder takes whole blocks and writes their values to the start of `out`. In 4- and 5-bit types the low nibbles are a
 * block's first 16 values and the high nibbles its last 16; a fifth bit comes from a 32-bit mask, value i from bit i.
 */
import { readHalf } from "./half-float.ts";

/** Blocks of 18 bytes: scale, 16 bytes of nibbles. x = d (q − 8) */
export function decodeQ4_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 18, to += 32) {
    const d = readHalf(bytes, at);
    for (let i = 0; i < 16; i++) {
      const nibbles = bytes[at + 2 + i]!;
      out[to + i] = d * ((nibbles & 15) - 8);
      out[to + 16 + i] = d * ((nibbles >> 4) - 8);
    }
  }
}

/** Blocks of 20 bytes: scale, minimum, 16 bytes of nibbles. x = d q + m */
export function decodeQ4_1(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 20, to += 32) {
    const d = readHalf(bytes, at);
    const m = readHalf(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const nibbles = bytes[at + 4 + i]!;
      out[to + i] = d * (nibbles & 15) + m;
      out[to + 16 + i] = d * (nibbles >> 4) + m;
    }
  }
}

/** Blocks of 22 bytes: scale, fifth bits, 16 bytes of nibbles. x = d (q − 16) */
export function decodeQ5_0(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 22, to += 32) {
    const d = readHalf(bytes, at);
    const fifths = mask(bytes, at + 2);
    for (let i = 0; i < 16; i++) {
      const nibbles = bytes[at + 6 + i]!;
      out[to + i] = d * (((nibbles & 15) | (((fifths >>> i) & 1) << 4)) - 16);
      out[to + 16 + i] = d * (((nibbles >> 4) | (((fifths >>> (16 + i)) & 1) << 4)) - 16);
    }
  }
}

/** Blocks of 24 bytes: scale, minimum, fifth bits, 16 bytes of nibbles. x = d q + m */
export function decodeQ5_1(bytes: Uint8Array, out: Float32Array): void {
  for (let at = 0, to = 0; at < bytes.length; at += 24, to += 32) {
    const d = readHalf(bytes, at);
    const m = readHalf(bytes, at + 2);
    const fifths = mask(bytes, at + 4);
    for (let i = 0; i < 16; i++) {
      const nibbles = bytes[at + 8 + i]!;
      out[to + i] = d * ((nibbles & 15) | (((fifths >>> i) & 1) << 4)) + m;
      out[to + 16 + i] = d * ((nibbles >> 4) | (((fifths >>> (16 + i)) & 1) << 4)) + m;
    }
  }
}

/** Blocks of 34 bytes: scale, 32 signed bytes. x = d q */
export function decodeQ8_0(bytes: Uint8Array, out: Float32Array): void {
  const signed = new Int8Array(bytes.buffer, bytes.byteOffset, bytes.length);
  for (let at = 0, to = 0; at < bytes.length; at += 34, to += 32) {
    const d = readHalf(bytes, at);
    for (let i = 0; i < 32; i++) out[to + i] = d * signed[at + 2 + i]!;
  }
}

function mask(bytes: Uint8Array, at: number): number {
  return bytes[at]! | (bytes[at + 1]! << 8) | (bytes[at + 2]! << 16) | (bytes[at + 3]! << 24);
}
