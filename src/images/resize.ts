/** Fitting pictures to a size, off this thread: by Lanczos' filter where that reduces, by a bicubic one where it enlarges. */
import sharp from "sharp";
import type { GrayImage, RgbImage } from "./rgb-image.ts";

/** `image` at another size; what the new shape has no room for is cut evenly from two sides. */
export async function resize(image: RgbImage, width: number, height: number): Promise<RgbImage> {
  return { width, height, pixels: await resample(image, 3, width, height) };
}

/** `image` at another size, as `resize` does it. */
export async function resizeGray(image: GrayImage, width: number, height: number): Promise<GrayImage> {
  return { width, height, pixels: await resample(image, 1, width, height) };
}

async function resample(
  image: RgbImage | GrayImage,
  channels: 1 | 3,
  width: number,
  height: number,
): Promise<Uint8Array> {
  if (image.width === width && image.height === height) return image.pixels;
  const resized = sharp(image.pixels, { raw: { width: image.width, height: image.height, channels } }).resize(
    width,
    height,
    { fit: "cover", kernel: "lanczos3" },
  );
  // One channel stays one: sharp would otherwise make grey into three.
  return await (channels === 1 ? resized.toColourspace("b-w") : resized).raw().toBuffer();
}
