/** Keeps the pipeline that was used last, so that the next request with the same model starts at once. */
import { FluxPipeline, type FluxPipelineOptions } from "../pipelines/flux-pipeline.ts";
import type { ConversionWatch } from "../pipelines/model-conversion.ts";

export class ModelPool {
  #key: string | undefined;
  #pipeline: FluxPipeline | undefined;

  /** Whether the pipeline for `options` is the loaded one. */
  has(options: FluxPipelineOptions): boolean {
    return this.#pipeline !== undefined && this.#key === JSON.stringify(options);
  }

  /** The pipeline for `options`: the loaded one, or a fresh one after the loaded one has given its memory back. */
  async get(options: FluxPipelineOptions, watch: ConversionWatch = {}): Promise<FluxPipeline> {
    if (this.#pipeline && this.has(options)) return this.#pipeline;
    await this.clear();
    this.#pipeline = await FluxPipeline.load(options, watch);
    this.#key = JSON.stringify(options);
    return this.#pipeline;
  }

  async clear(): Promise<void> {
    const pipeline = this.#pipeline;
    this.#pipeline = undefined;
    await pipeline?.dispose();
  }
}
