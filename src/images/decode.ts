/** The bytes of a PNG, JPEG or WebP file from anywhere → pixels. */
import sharp, { type Metadata, type Sharp } from "sharp";
import { InvalidRequestError } from "../errors.ts";
import { Gate } from "./gate.ts";
import type { GrayImage, RgbImage } from "./rgb-image.ts";

export interface DecodeLimits {
  /** Width × height. */
  maxPixels: number;
}

export interface DecodeOptions extends DecodeLimits {
  /** "on white": transparent parts show white, half transparent ones a mixture; "kept": the colours are as in the file. */
  transparency?: "on white" | "kept" | undefined;
}

export interface DecodedImage {
  /** Upright, in sRGB. */
  image: RgbImage;
  /** 0 is transparent; undefined when the file has no transparency at all. */
  alpha: GrayImage | undefined;
  /** What of the file could not be kept. One sentence each. */
  losses: string[];
}

/** No longer than what WebP can hold: a strip of 1 × 40 million pixels is no picture. */
export const maxDecodedSide = 16_384;
const timeoutSeconds = 20;
/** A large picture takes hundreds of megabytes while it is decoded: many clients must not add up to all of them. */
const gate = new Gate(2);

/**
 * Reads a picture that may be hostile. Its kind and its size are checked before a pixel is decoded; Exif's orientation is
 * applied. Throws `invalid_request` naming `param`, the field it came in.
 */
export async function decodeImage(file: Uint8Array, param: string, options: DecodeOptions): Promise<DecodedImage> {
  if (!isKnownFormat(file)) throw new InvalidRequestError(param, `${param} must be a PNG, JPEG or WebP file.`);
  try {
    // Reads the header alone, so that what is too large can be told its size.
    const metadata = await sharp(file, { limitInputPixels: false }).metadata();
    checkSize(metadata, param, options);
    const pixels = await gate.run(() => decodePixels(file, metadata.hasAlpha, options));
    return { ...pixels, losses: lossesOf(metadata) };
  } catch (cause) {
    if (cause instanceof InvalidRequestError) throw cause;
    throw new InvalidRequestError(param, `${param} cannot be read: the file is damaged or incomplete.`);
  }
}

/** By its first bytes: only these three decoders ever see what was uploaded. */
function isKnownFormat(file: Uint8Array): boolean {
  const head = Buffer.from(file.buffer, file.byteOffset, Math.min(12, file.length)).toString("latin1");
  const isWebp = head.startsWith("RIFF") && head.endsWith("WEBP");
  return isWebp || head.startsWith("\x89PNG\r\n\x1a\n") || head.startsWith("\xff\xd8\xff");
}

function checkSize({ width, height, pages = 1 }: Metadata, param: string, { maxPixels }: DecodeLimits): void {
  if (pages > 1) throw new InvalidRequestError(param, `${param} must be a still picture, not ${pages} frames.`);
  if (Math.max(width, height) > maxDecodedSide) {
    throw new InvalidRequestError(
      param,
      `${param} must have sides of at most ${maxDecodedSide} pixels, not ${width}x${height}.`,
    );
  }
  if (width * height > maxPixels) {
    throw new InvalidRequestError(
      param,
      `${param} must have at most ${maxPixels} pixels in all, but ${width}x${height} are ${width * height}.`,
    );
  }
}

function lossesOf({ depth, icc, space }: Metadata): string[] {
  const losses: string[] = [];
  if (depth === "ushort") losses.push("The picture's 16 bits a channel were reduced to 8.");
  if (space === "cmyk") losses.push("The picture's printing colours (CMYK) were converted to sRGB.");
  else if (icc !== undefined && !isSrgbProfile(icc)) {
    losses.push("The picture's colours were converted from its own profile to sRGB.");
  }
  return losses;
}

/** By its name, which old profiles write in ASCII and new ones in UTF-16. */
function isSrgbProfile(icc: Uint8Array): boolean {
  const text = Buffer.from(icc.buffer, icc.byteOffset, icc.length).toString("latin1");
  return text.includes("sRGB") || text.includes("s\0R\0G\0B");
}

async function decodePixels(
  file: Uint8Array,
  hasAlpha: boolean,
  { maxPixels, transparency = "on white" }: DecodeOptions,
): Promise<Omit<DecodedImage, "losses">> {
  const upright = sharp(file, { limitInputPixels: maxPixels, failOn: "error" })
    .timeout({ seconds: timeoutSeconds })
    .autoOrient()
    .toColourspace("srgb");
  const colour =
    hasAlpha && transparency === "on white" ? upright.clone().flatten({ background: "white" }) : upright.clone();
  const image = await rawPixels(colour.removeAlpha());
  if (!hasAlpha) return { image, alpha: undefined };
  const alpha = await rawPixels(upright.clone().extractChannel("alpha").toColourspace("b-w"));
  return { image, alpha: isOpaque(alpha) ? undefined : alpha };
}

/** A plain loop: with a callback for each of 40 million pixels the server would stand still. */
function isOpaque({ pixels }: GrayImage): boolean {
  for (let i = 0; i < pixels.length; i++) if (pixels[i] !== 255) return false;
  return true;
}

async function rawPixels(picture: Sharp): Promise<RgbImage> {
  const { data, info } = await picture.raw({ depth: "uchar" }).toBuffer({ resolveWithObject: true });
  return { width: info.width, height: info.height, pixels: data };
}
