/** Enlarging and reducing pictures. */
import sharp from "sharp";
import type { RgbImage } from "./encode.ts";

/** `image` at another size, by Lanczos' filter with three lobes; the aspect ratio follows the new size. */
export async function resize(image: RgbImage, width: number, height: number): Promise<RgbImage> {
  const pixels = await sharp(image.pixels, { raw: { width: image.width, height: image.height, channels: 3 } })
    .resize(width, height, { fit: "fill", kernel: "lanczos3" })
    .raw()
    .toBuffer();
  return { width, height, pixels };
}
