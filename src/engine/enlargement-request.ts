/** A given picture to be enlarged: what may be asked for, and what the engine process then does. */
import { InvalidRequestError } from "../errors.ts";
import { decodeImage, type DecodeLimits } from "../images/decode.ts";
import { metadataFits, type PictureMetadata, readMetadata } from "../images/metadata.ts";
import type { UpscaleFactor } from "../images/upscale.ts";
import { layOnWhite } from "../images/transparency.ts";
import type { Picture } from "../pipelines/upscale-pipeline.ts";
import type { EnlargementJob } from "./engine-messages.ts";
import type { OutputOptions } from "./generation-request.ts";
import type { Planning } from "./plan-job.ts";

export interface EnlargementRequest extends Picture {
  scale: UpscaleFactor;
  /** A name of the upscaler catalog; never a path. Default: the built-in one. */
  upscaler?: string | undefined;
  output?: OutputOptions | undefined;
  /** What the result's file says about the picture's making. */
  metadata?: PictureMetadata | undefined;
}

/** What a file becomes before it is enlarged. */
export interface EnlargementInput extends Picture {
  metadata: PictureMetadata | undefined;
  /** What of the file could not be kept. One sentence each. */
  notices: string[];
}

/**
 * Reads the file of a picture to be enlarged into an `output` format. Throws `invalid_request` naming `param`, the field it
 * came in.
 */
export async function readEnlargementInput(
  file: Uint8Array,
  param: string,
  limits: DecodeLimits,
  { format = "png" }: OutputOptions,
): Promise<EnlargementInput> {
  const { image, alpha, losses } = await decodeImage(file, param, { ...limits, transparency: "kept" });
  // That a model made a picture stays true when it is enlarged; how to draw it again does not.
  const { sourceType } = await readMetadata(file);
  const metadata = sourceType === undefined || !metadataFits({ sourceType }, format) ? undefined : { sourceType };
  if (alpha === undefined || format !== "jpeg") return { image, alpha, metadata, notices: losses };
  const notices = [...losses, "JPEG knows no transparency: the picture's transparent parts were laid on white."];
  return { image: layOnWhite(image, alpha), alpha: undefined, metadata, notices };
}

/**
 * The job of a request. Throws `invalid_request` when the result would be too large, `model_not_found` and `model_invalid`
 * for the upscaler.
 */
export async function planEnlargement(
  { image, alpha, scale, upscaler, output = {}, metadata }: EnlargementRequest,
  { pipeline, limits, upscalers }: Pick<Planning, "pipeline" | "limits" | "upscalers">,
): Promise<EnlargementJob> {
  const { width, height } = image;
  if (Math.max(width, height) * scale > limits.maxUpscaledSide) {
    throw new InvalidRequestError(
      "scale",
      `scale would make ${width * scale}x${height * scale} of ${width}x${height}, but the largest side is ` +
        `${limits.maxUpscaledSide}.`,
    );
  }
  const enlarging = { factor: scale, upscaler: await upscalers.resolve(upscaler, scale) };
  const { device, threads } = pipeline;
  return { image, alpha, enlarging, runtime: { device, threads }, output, metadata };
}
