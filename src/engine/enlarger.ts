/** Enlarges pictures and keeps the networks that it used last. */
import { lanczos } from "../images/lanczos.ts";
import { fillTransparent } from "../images/transparency.ts";
import {
  type EnlargeOptions,
  type Picture,
  UpscalePipeline,
  type UpscalePipelineOptions,
} from "../pipelines/upscale-pipeline.ts";
import type { Enlarging } from "./upscaler-catalog.ts";

/** Where networks run. */
export type EnlargerRuntime = Pick<UpscalePipelineOptions, "device" | "threads">;

/** The built-in one for both factors. */
const keptPipelines = 2;

export class Enlarger {
  /** By file and runtime, the one that was used last at the end. */
  readonly #pipelines = new Map<string, UpscalePipeline>();

  /** The picture with each side `factor` times as long. Throws what the pipeline throws. */
  async enlarge(
    picture: Picture,
    { factor, upscaler }: Enlarging,
    { device, threads, ...options }: EnlargeOptions & EnlargerRuntime = {},
  ): Promise<Picture> {
    const { alpha } = picture;
    const image = alpha === undefined ? picture.image : await fillTransparent(picture.image, alpha);
    if (upscaler.file !== undefined) {
      const pipeline = await this.#load({ file: upscaler.file, device, threads });
      return await pipeline.enlarge({ image, alpha }, factor, options);
    }
    const [width, height] = [image.width * factor, image.height * factor];
    return {
      image: lanczos(image, width, height),
      alpha: alpha && lanczos(alpha, width, height),
    };
  }

  async #load(options: UpscalePipelineOptions): Promise<UpscalePipeline> {
    const key = JSON.stringify(options);
    const pipeline = this.#pipelines.get(key) ?? (await UpscalePipeline.load(options));
    this.#pipelines.delete(key);
    this.#pipelines.set(key, pipeline);
    for (const [oldest, unused] of this.#pipelines) {
      if (this.#pipelines.size <= keptPipelines) break;
      this.#pipelines.delete(oldest);
      await unused.dispose();
    }
    return pipeline;
  }
}
