/**
 * Starting from a picture instead of from noise alone: image to image, and with a mask inpainting. Follows diffusers'
 * `FluxImg2ImgPipeline` and `FluxInpaintPipeline`.
 */
import { InvalidRequestError } from "../errors.ts";
import { resize, resizeGray } from "../images/resize.ts";
import type { GrayImage, RgbImage } from "../images/rgb-image.ts";
import type { LatentCodec } from "./latent-codec.ts";
import { packLatents } from "./latents.ts";
import type { TorchGenerator } from "./torch-random.ts";

/** A picture to start from. */
export interface ImageCondition {
  image: RgbImage;
  /** How far to leave the picture, in (0, 1]: the share of the steps that are taken. Default 0.6. */
  strength?: number | undefined;
  /** Where to repaint: 128 and above. Elsewhere the picture stays as it was, pixel for pixel. */
  mask?: GrayImage | undefined;
}

export const defaultStrength = 0.6;

/**
 * The first step to take, of `steps`, when starting from a picture; at least one is taken.
 *
 * @throws InvalidRequestError when the strength is not in (0, 1].
 */
export function firstStep(steps: number, strength: number): number {
  if (!(strength > 0 && strength <= 1)) {
    throw new InvalidRequestError("strength", `The strength must be above 0 and at most 1, not ${strength}.`);
  }
  return Math.trunc(steps - steps * strength);
}

/** The picture as packed latents, and the mask as packed 0s (keep) and 1s (repaint). */
export interface EncodedCondition {
  latents: Float32Array;
  mask: Float32Array | undefined;
}

/** `condition` at the size that is drawn, as latents [1, tokens, 4C]. */
export async function encodeCondition(
  { image, mask }: ImageCondition,
  drawn: { width: number; height: number },
  codec: LatentCodec,
  generator: TorchGenerator,
): Promise<EncodedCondition> {
  const picture = await resize(image, drawn.width, drawn.height);
  const { data, channels, height, width } = await codec.encode(picture, generator);
  const latents = packLatents(data, channels, height, width);
  if (mask === undefined) return { latents, mask: undefined };

  const full = await resizeGray(mask, drawn.width, drawn.height);
  const stride = codec.pixelsPerLatent;
  const unpacked = new Float32Array(data.length);
  for (let y = 0; y < height; y++) {
    for (let x = 0; x < width; x++) {
      const repaint = full.pixels[y * stride * full.width + x * stride]! >= 128 ? 1 : 0;
      for (let channel = 0; channel < channels; channel++) unpacked[(channel * height + y) * width + x] = repaint;
    }
  }
  return { latents, mask: packLatents(unpacked, channels, height, width) };
}

/** A clean sample with as much noise as belongs to `sigma`: σ · noise + (1 − σ) · sample */
export function addNoise(sample: Float32Array, noise: Float32Array, sigma: number): Float32Array {
  return sample.map((value, i) => Math.fround(sigma * noise[i]!) + Math.fround(Math.fround(1 - sigma) * value));
}

/** `painted` where the mask is 1 and `kept` where it is 0. */
export function blend(kept: Float32Array, painted: Float32Array, mask: Float32Array): Float32Array {
  return painted.map((value, i) => (mask[i] === 1 ? value : kept[i]!));
}

/** The drawn picture inside the mask, the given one outside it. */
export async function keepOutsideMask(drawn: RgbImage, { image, mask }: ImageCondition): Promise<RgbImage> {
  if (mask === undefined) return drawn;
  const { width, height } = drawn;
  const original = await resize(image, width, height);
  const repaint = await resizeGray(mask, width, height);
  const pixels = drawn.pixels.map((value, i) =>
    repaint.pixels[Math.trunc(i / 3)]! >= 128 ? value : original.pixels[i]!,
  );
  return { width, height, pixels };
}
