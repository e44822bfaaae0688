/** Pictures with transparent parts, made fit for filters that know nothing of transparency, and put on a background. */
import sharp from "sharp";
import type { GrayImage, RgbImage } from "./rgb-image.ts";

/** In pixels: how far colours spread. */
const spread = 6;

/**
 * The picture with colours from nearby in its transparent parts. What a file has there is arbitrary, mostly black, and would
 * bleed into the edges of what can be seen.
 */
export async function fillTransparent(image: RgbImage, alpha: GrayImage): Promise<RgbImage> {
  const { width, height, pixels } = image;
  const weighted = new Uint8Array(pixels.length);
  for (let i = 0; i < pixels.length; i++)
    weighted[i] = Math.round((pixels[i]! * alpha.pixels[Math.floor(i / 3)]!) / 255);
  const nearby = await blur(weighted, { width, height, channels: 3 });
  const share = await blur(alpha.pixels, { width, height, channels: 1 });

  const filled = new Uint8Array(pixels.length);
  for (let i = 0; i < pixels.length; i++) {
    const at = Math.floor(i / 3);
    const opacity = alpha.pixels[at]! / 255;
    const near = share[at]!;
    const fill = near === 0 ? 255 : Math.min(255, (nearby[i]! * 255) / near);
    filled[i] = Math.round(pixels[i]! * opacity + fill * (1 - opacity));
  }
  return { width, height, pixels: filled };
}

/** The picture as it looks on white. */
export function layOnWhite({ width, height, pixels }: RgbImage, alpha: GrayImage): RgbImage {
  const laid = new Uint8Array(pixels.length);
  for (let i = 0; i < pixels.length; i++) {
    const opacity = alpha.pixels[Math.floor(i / 3)]! / 255;
    laid[i] = Math.round(pixels[i]! * opacity + 255 * (1 - opacity));
  }
  return { width, height, pixels: laid };
}

async function blur(pixels: Uint8Array, raw: { width: number; height: number; channels: 1 | 3 }): Promise<Uint8Array> {
  const blurred = sharp(pixels, { raw }).blur(spread);
  // One channel stays one: sharp would otherwise make grey into three.
  return await (raw.channels === 1 ? blurred.toColourspace("b-w") : blurred).raw().toBuffer();
}
