/** Models that have learnt one size: which they draw for a request of another, and how that becomes what was asked for. */
import { InvalidRequestError } from "../errors.ts";
import { resize } from "../images/resize.ts";
import type { RgbImage } from "../images/rgb-image.ts";
import { type UpscaleFactor, upscaleFactors } from "../images/upscale.ts";
import { builtInUpscaler, builtInUpscalerFile } from "./built-in-upscaler.ts";
import { UpscalePipeline, type UpscalePipelineOptions } from "./upscale-pipeline.ts";

/** In pixels. */
export interface Size {
  width: number;
  height: number;
}

/**
 * The size to draw at for a request: itself, unless the model has one native size; then the nearest shape whose short side
 * is the native size.
 *
 * @throws InvalidRequestError when a side is not a multiple of `granularity`, the pixels of one token.
 */
export function planDrawnSize(asked: Size, granularity: number, nativeSize: number | undefined): Size {
  if (nativeSize === undefined) {
    for (const side of [asked.width, asked.height]) {
      if (side % granularity !== 0 || side < granularity) {
        throw new InvalidRequestError(
          "size",
          `The size ${asked.width}x${asked.height} cannot be drawn: this model needs multiples of ${granularity} pixels.`,
        );
      }
    }
    return { width: asked.width, height: asked.height };
  }
  const scale = nativeSize / Math.min(asked.width, asked.height);
  const snap = (side: number) => Math.max(1, Math.round((side * scale) / granularity)) * granularity;
  return { width: snap(asked.width), height: snap(asked.height) };
}

/** What the user must be told when a picture of one size becomes one of another. */
export function resizingNotice(drawn: Size, asked: Size): string | undefined {
  if (drawn.width === asked.width && drawn.height === asked.height) return undefined;
  const growth = growthTo(asked, drawn);
  const sizes = `This model draws ${drawn.width}x${drawn.height}; the picture was`;
  const size = `${asked.width}x${asked.height}`;
  if (growth <= 1) return `${sizes} reduced to ${size}.`;
  const factor = factorFor(growth);
  return growth > factor
    ? `${sizes} enlarged to ${size}, ${factor} times by ${builtInUpscaler} and the rest by interpolation.`
    : `${sizes} enlarged to ${size} by ${builtInUpscaler}.`;
}

/** Brings drawings to the size asked for; the networks that it needs stay loaded until it is disposed of. */
export class DrawingResizer {
  readonly #options: Pick<UpscalePipelineOptions, "device" | "threads">;
  readonly #enlargers = new Map<UpscaleFactor, Promise<UpscalePipeline>>();

  constructor(options: Pick<UpscalePipelineOptions, "device" | "threads">) {
    this.#options = options;
  }

  /**
   * `drawing` at the size asked for; what the new shape has no room for is cut evenly from two sides. A larger one is made by
   * the built-in upscaler, whose next factor up is then reduced.
   *
   * @throws CancelledError when `signal` aborts before the picture is enlarged.
   */
  async resize(drawing: RgbImage, asked: Size, signal: AbortSignal | undefined): Promise<RgbImage> {
    const growth = growthTo(asked, drawing);
    const picture = growth > 1 ? await this.#enlarge(drawing, factorFor(growth), signal) : drawing;
    return await resize(picture, asked.width, asked.height);
  }

  async dispose(): Promise<void> {
    for (const enlarger of this.#enlargers.values()) await (await enlarger).dispose();
  }

  async #enlarge(drawing: RgbImage, factor: UpscaleFactor, signal: AbortSignal | undefined): Promise<RgbImage> {
    const file = builtInUpscalerFile(factor);
    const loading = this.#enlargers.get(factor) ?? UpscalePipeline.load({ file, ...this.#options });
    this.#enlargers.set(factor, loading);
    const enlarger = await loading;
    return (await enlarger.enlarge({ image: drawing, alpha: undefined }, factor, { signal })).image;
  }
}

/** By how much a picture has to grow to fill a size. */
function growthTo(asked: Size, drawn: Size): number {
  return Math.max(asked.width / drawn.width, asked.height / drawn.height);
}

/** The least that is enough, or else the most there is. */
function factorFor(growth: number): UpscaleFactor {
  return upscaleFactors.find((factor) => factor >= growth) ?? 4;
}
