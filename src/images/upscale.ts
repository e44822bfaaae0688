/** Larger pictures. */
import { resize } from "./resize.ts";
import type { RgbImage } from "./rgb-image.ts";

export const upscaleFactors = [2, 4] as const;
export type UpscaleFactor = (typeof upscaleFactors)[number];

/** How `upscale` works, as answers name it: an interpolation, which sharpens nothing and invents nothing. */
export const upscaleMethod = "lanczos3";

/** `image` with each side `factor` times as long. */
export async function upscale(image: RgbImage, factor: UpscaleFactor): Promise<RgbImage> {
  return await resize(image, image.width * factor, image.height * factor);
}
