/** Pixels → the bytes of a PNG, JPEG or WebP file. */
import sharp, { type Sharp } from "sharp";
import { embedMetadata, type ImageFormat, type PictureMetadata } from "./metadata.ts";
import type { GrayImage, RgbImage } from "./rgb-image.ts";

export interface EncodeOptions {
  /** As large as the picture; 0 is transparent. Not for JPEG, which has none. Default: opaque. */
  alpha?: GrayImage | undefined;
  /** Default "png". */
  format?: ImageFormat | undefined;
  /** Of JPEG and WebP, which lose a little: 0 (smallest file) to 100 (best picture, the default). */
  quality?: number | undefined;
  metadata?: PictureMetadata | undefined;
}

/** `image` as a file. The same pixels and options always give the same bytes. */
export async function encodeImage(
  image: RgbImage,
  { alpha, format = "png", quality = 100, metadata }: EncodeOptions = {},
): Promise<Uint8Array> {
  const { width, height } = image;
  const opaque = sharp(image.pixels, { raw: { width, height, channels: 3 } });
  const picture = alpha
    ? opaque.joinChannel(Buffer.from(alpha.pixels), { raw: { width, height, channels: 1 } })
    : opaque;
  const file = await withFormat(picture, format, quality).toBuffer();
  return metadata === undefined ? file : embedMetadata(file, format, metadata);
}

function withFormat(picture: Sharp, format: ImageFormat, quality: number): Sharp {
  const atLeastOne = Math.max(1, quality);
  switch (format) {
    case "png":
      return picture.png();
    case "jpeg":
      // Colour at half the resolution shows at the edges of flat art; only who asks for small files gets it.
      return picture.jpeg({ quality: atLeastOne, chromaSubsampling: quality >= 90 ? "4:4:4" : "4:2:0" });
    case "webp":
      return picture.webp({ quality: atLeastOne });
  }
}
