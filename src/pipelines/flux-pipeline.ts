// Interface first; the numbered steps follow.
import type { DeviceName } from "../onnx/devices.ts";

export type Precision = "fp32" | "fp16" | "int8" | "int4";

export interface FluxPipelineOptions {
  /** A model folder in the diffusers layout. */
  modelDir: string;
  /** Default "auto". */
  device?: DeviceName | undefined;
  /** CPU threads; default: all cores. */
  threads?: number | undefined;
  /** Default: the best for the device. Today only "fp32". */
  precision?: Precision | undefined;
}

/** What to draw. Omitted values take the model's own defaults. */
export interface GenerationParams {
  prompt: string;
  negativePrompt?: string | undefined;
  /** Pixels of the answer. */
  width: number;
  height: number;
  numInferenceSteps?: number | undefined;
  guidanceScale?: number | undefined;
  /** Classifier-free guidance with the negative prompt; two passes per step when above 1. */
  trueCfgScale?: number | undefined;
  /** Image i of n is drawn with seed + i. */
  seed: number;
  numImages: number;
  maxSequenceLength?: number | undefined;
}

export interface Progress {
  /** 0-based image of n. */
  imageIndex: number;
  /** Steps finished and in total for this image. */
  step: number;
  steps: number;
}

export interface GeneratedImage {
  seed: number;
  width: number;
  height: number;
  /** RGB, 8 bits a channel, rows from the top. [height, width, 3] */
  pixels: Uint8Array;
  /** The size the model drew, when it differs from width × height (the picture was then enlarged or reduced). */
  drawnWidth: number;
  drawnHeight: number;
}

export interface GenerationResult {
  images: GeneratedImage[];
  /** Things the user must be told: what was truncated, enlarged, replaced. One sentence each. */
  notices: string[];
  numInferenceSteps: number;
  guidanceScale: number;
  device: DeviceName;
}

export interface GenerateOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
}

export declare class FluxPipeline {
  static load(options: FluxPipelineOptions): Promise<FluxPipeline>;
  /** Throws InvalidRequestError, CancelledError. */
  generate(params: GenerationParams, options?: GenerateOptions): Promise<GenerationResult>;
  dispose(): Promise<void>;
}
