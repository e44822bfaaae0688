/** What the engine and its child process say to each other: plain data, so that a queue could stand between them. */
import type { SerializedError } from "../errors.ts";
import type { ImageFormat, PictureMetadata } from "../images/metadata.ts";
import type { DeviceChoice } from "../onnx/device-choice.ts";
import type { FluxPipelineOptions, GenerationResult, Progress } from "../pipelines/flux-pipeline.ts";
import type { ConversionTotals } from "../pipelines/model-conversion.ts";
import type { GenerationParams } from "../pipelines/generation-plan.ts";
import type { Picture } from "../pipelines/upscale-pipeline.ts";
import type { EnlargerRuntime } from "./enlarger.ts";
import type { OutputOptions, PictureSize } from "./generation-request.ts";
import type { Enlarging } from "./upscaler-catalog.ts";

/** One generation, with everything the process needs to know about it. */
export interface GenerationJob {
  pipeline: FluxPipelineOptions;
  /** The model's name, for the picture's metadata. */
  model: string;
  params: GenerationParams;
  upscale: Enlarging | undefined;
  previews: number;
  output: OutputOptions;
  /** What planning has to tell the user. */
  notices: string[];
}

/** The enlargement of a given picture, with everything the process needs to know about it. */
export interface EnlargementJob extends Picture {
  enlarging: Enlarging;
  runtime: EnlargerRuntime;
  output: OutputOptions;
  metadata: PictureMetadata | undefined;
}

/** A picture that was given and enlarged, as a file's bytes. */
export interface EnlargementResult {
  width: number;
  height: number;
  format: ImageFormat;
  data: Uint8Array;
}

/** What the process can be asked to do. */
export type EngineWork = { type: "generate"; job: GenerationJob } | { type: "enlarge"; job: EnlargementJob };

/** A finished picture as a file's bytes. */
export interface EncodedImage {
  seed: number;
  width: number;
  height: number;
  /** The size the model drew; when it differs from the size asked for, the picture was then enlarged or reduced. */
  drawnWidth: number;
  drawnHeight: number;
  /** The size asked for, when the picture was then enlarged from it. */
  upscaledFrom: PictureSize | undefined;
  /** What enlarged it: an upscaler's name. */
  upscaleMethod: string | undefined;
  format: ImageFormat;
  data: Uint8Array;
}

/** What a picture would be if it were done now, as a file's bytes; often smaller than the picture. */
export interface EncodedPreview {
  /** 0-based image of n. */
  imageIndex: number;
  /** 0-based preview of this image. */
  previewIndex: number;
  width: number;
  height: number;
  format: ImageFormat;
  data: Uint8Array;
}

export interface JobResult extends Omit<GenerationResult, "images"> {
  images: EncodedImage[];
  /** What the picture to start from, if there was one, is to the transformer. */
  inputImageTokens: number;
  /** Whether the model was in memory already. */
  foundLoaded: boolean;
}

export type ToEngineProcess = (EngineWork & { id: string }) | { type: "cancel"; id: string };

export type FromEngineProcess =
  | { type: "conversion"; id: string; totals: ConversionTotals }
  | { type: "device"; id: string; choice: DeviceChoice }
  | { type: "progress"; id: string; progress: Progress }
  | { type: "preview"; id: string; preview: EncodedPreview }
  | { type: "done"; id: string; result: JobResult | EnlargementResult }
  | { type: "failed"; id: string; error: SerializedError };
