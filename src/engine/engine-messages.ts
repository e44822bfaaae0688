/** What the engine and its child process say to each other: plain data, so that a queue could stand between them. */
import type { SerializedError } from "../errors.ts";
import type { FluxPipelineOptions, GenerationParams, GenerationResult, Progress } from "../pipelines/flux-pipeline.ts";

/** One generation, with everything the process needs to know about it. */
export interface GenerationJob {
  pipeline: FluxPipelineOptions;
  /** The model's name, for the picture's metadata. */
  model: string;
  params: GenerationParams;
}

/** A finished picture as a file's bytes. */
export interface EncodedImage {
  seed: number;
  width: number;
  height: number;
  /** The size the model drew, when it differs from width × height. */
  drawnWidth: number;
  drawnHeight: number;
  format: "png";
  data: Uint8Array;
}

export interface JobResult extends Omit<GenerationResult, "images"> {
  images: EncodedImage[];
}

export type ToEngineProcess = { type: "generate"; id: string; job: GenerationJob } | { type: "cancel"; id: string };

export type FromEngineProcess =
  | { type: "progress"; id: string; progress: Progress }
  | { type: "done"; id: string; result: JobResult }
  | { type: "failed"; id: string; error: SerializedError };
