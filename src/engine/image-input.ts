/** The files of a picture and of its mask → what a generation starts from. */
import { InvalidRequestError } from "../errors.ts";
import { decodeImage, type DecodeLimits } from "../images/decode.ts";
import type { GrayImage } from "../images/rgb-image.ts";
import type { ImageCondition } from "../pipelines/image-conditioning.ts";

export interface ImageInput {
  image: Uint8Array;
  mask?: Uint8Array | undefined;
  strength?: number | undefined;
}

/** What the fields are called where they came in. */
export interface InputNames {
  image: string;
  mask: string;
}

/**
 * Decodes both. What is to be repainted follows OpenAI: the mask's transparent pixels; without a mask the picture's own;
 * without either all of it.
 *
 * @throws InvalidRequestError naming the field at fault.
 */
export async function readImageInput(
  input: ImageInput,
  names: InputNames,
  limits: DecodeLimits,
): Promise<ImageCondition> {
  const { image, alpha } = await decodeImage(input.image, names.image, limits);
  const { strength } = input;
  if (input.mask === undefined) return { image, mask: alpha && whereTransparent(alpha), strength };

  const mask = await decodeImage(input.mask, names.mask, limits);
  if (mask.image.width !== image.width || mask.image.height !== image.height) {
    throw new InvalidRequestError(
      names.mask,
      `${names.mask} must be as large as the picture, ${image.width}x${image.height}, not ` +
        `${mask.image.width}x${mask.image.height}.`,
    );
  }
  if (mask.alpha === undefined) {
    throw new InvalidRequestError(
      names.mask,
      `${names.mask} must have transparent pixels: they say what is to be repainted.`,
    );
  }
  return { image, mask: whereTransparent(mask.alpha), strength };
}

function whereTransparent({ width, height, pixels: opacity }: GrayImage): GrayImage {
  const pixels = new Uint8Array(opacity.length);
  for (let i = 0; i < pixels.length; i++) pixels[i] = 255 - opacity[i]!;
  return { width, height, pixels };
}
