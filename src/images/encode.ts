/** Pixels → PNG, with text fields that say how the picture was made. */
import { crc32 } from "node:zlib";
import sharp from "sharp";
import type { RgbImage } from "./rgb-image.ts";

/**
 * `image` as the bytes of a PNG file; `metadata` becomes its text fields (iTXt chunks, so any Unicode survives), by keyword
 * of 1–79 Latin letters.
 */
export async function encodePng(image: RgbImage, metadata: Readonly<Record<string, string>> = {}): Promise<Uint8Array> {
  const { width, height } = image;
  const png = await sharp(image.pixels, { raw: { width, height, channels: 3 } })
    .png()
    .toBuffer();
  const chunks = Object.entries(metadata).map(([keyword, text]) => textChunk(keyword, text));
  // The signature (8 bytes) and the IHDR chunk (4 length + 4 type + 13 data + 4 checksum) come first in every PNG.
  const headEnd = 8 + 25;
  return Buffer.concat([png.subarray(0, headEnd), ...chunks, png.subarray(headEnd)]);
}

/** An uncompressed iTXt chunk without language (PNG specification, 11.3.3.4). */
function textChunk(keyword: string, text: string): Buffer {
  const separators = Buffer.from([0, 0, 0, 0, 0]); // end of keyword, not compressed, method 0, no language, no translation
  const body = Buffer.concat([
    Buffer.from("iTXt"),
    Buffer.from(keyword, "latin1"),
    separators,
    Buffer.from(text, "utf8"),
  ]);
  const length = Buffer.alloc(4);
  length.writeUInt32BE(body.length - 4);
  const checksum = Buffer.alloc(4);
  checksum.writeUInt32BE(crc32(body));
  return Buffer.concat([length, body, checksum]);
}
