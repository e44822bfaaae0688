/** What goes in and what comes out, and what both are called on the wire. */

/** Settings that every way of drawing shares. */
export interface DrawingOptions {
  /** Default: the server's. */
  model?: string | undefined;
  /** How many pictures, 1 to 10. */
  n?: number | undefined;
  /** "512x512", or "auto" for the model's own size, or the given picture's. */
  size?: string | undefined;
  /** Picture i of n is drawn with seed + i; the same seed draws the same picture. */
  seed?: number | undefined;
  steps?: number | undefined;
  guidanceScale?: number | undefined;
  negativePrompt?: string | undefined;
  /** The negative prompt's weight, with an effect above 1. */
  trueCfgScale?: number | undefined;
  /** How much a step may differ from one before to be taken from it: 0 is off, 0.1 mild. */
  stepCache?: number | undefined;
  /** Tokens of the prompt to read. */
  maxSequenceLength?: number | undefined;
  /** LoRAs of the server, by name: "watercolour" or "watercolour:0.8". */
  lora?: string | readonly string[] | undefined;
  /** Enlarges the finished picture. */
  upscale?: 2 | 4 | undefined;
  quality?: string | undefined;
  style?: string | undefined;
  outputFormat?: "png" | "jpeg" | "webp" | undefined;
  /** 0 to 100, for JPEG and WebP. */
  outputCompression?: number | undefined;
  /** Whether the picture's file tells its prompt. Default: the server's. */
  embedPrompt?: boolean | undefined;
}

/** A picture from words. */
export interface GenerateParams extends DrawingOptions {
  prompt: string;
}

/** A picture from a picture and words. */
export interface EditParams extends DrawingOptions {
  prompt: string;
  /** The picture to start from: PNG, JPEG or WebP. */
  image: Blob | Uint8Array;
  /** A PNG or WebP file whose transparent pixels are to be repainted; the others stay. */
  mask?: Blob | Uint8Array | undefined;
  /** How far to leave the picture, above 0 and at most 1. */
  strength?: number | undefined;
}

/** A picture from a picture alone. */
export interface VariationParams extends DrawingOptions {
  image: Blob | Uint8Array;
  /** How far to leave the picture, above 0 and at most 1. */
  strength?: number | undefined;
}

export interface UpscaleParams {
  image: Blob | Uint8Array;
  scale: 2 | 4;
  /** An upscaler's name. Default: the server's own. */
  model?: string | undefined;
  outputFormat?: "png" | "jpeg" | "webp" | undefined;
  /** 0 to 100, for JPEG and WebP. */
  outputCompression?: number | undefined;
}

/** A model that this key may use. Sizes in pixels. */
export interface Model {
  id: string;
  ownedBy: string;
  license: string | undefined;
  /** "WIDTHxHEIGHT" of a picture when none is asked for. */
  nativeSize: string;
  /** If not, it draws near its native size, and the picture is enlarged or reduced. */
  drawsAnySize: boolean;
  minSide: number;
  maxSide: number;
  maxUpscaledSide: number;
  maxImages: number;
  defaultSteps: number;
  maxSteps: number;
}

/** One picture of an answer. */
export class Picture {
  /** The file's bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  /** "WIDTHxHEIGHT" in pixels. */
  readonly size: string | undefined;
  readonly seed: number | undefined;
  readonly model: string | undefined;
  /** The size the model drew, when the picture was then enlarged or reduced. */
  readonly drawnSize: string | undefined;
  /** The size it had before it was enlarged, if it was, and how that was done. */
  readonly upscaledFrom: string | undefined;
  readonly upscaleMethod: string | undefined;

  constructor(wire: WirePicture) {
    this.bytes = decodeBase64(wire.b64_json);
    this.size = wire.size;
    this.seed = wire.seed;
    this.model = wire.model;
    this.drawnSize = wire.drawn_size;
    this.upscaledFrom = wire.upscaled_from;
    this.upscaleMethod = wire.upscale_method;
  }

  /** For `URL.createObjectURL` and uploads. */
  blob(): Blob {
    return new Blob([this.bytes]);
  }
}

/** What was read and what was drawn, in the server's tokens. */
export interface Usage {
  inputTokens: number;
  outputTokens: number;
  totalTokens: number;
}

export interface Pictures {
  /** Unix time, in seconds. */
  created: number;
  images: Picture[];
  usage: Usage | undefined;
  /** What there is to know: what was truncated, enlarged, ignored. */
  notices: string[];
}

/** While pictures are being drawn: what each looks like so far, and then the picture. */
export type DrawingEvent = PartialEvent | CompletedEvent;

export interface PartialEvent {
  type: "partial";
  /** 0-based picture of n. */
  imageIndex: number;
  /** 0-based preview of this picture. */
  index: number;
  image: Picture;
}

export interface CompletedEvent {
  type: "completed";
  imageIndex: number;
  image: Picture;
  usage: Usage | undefined;
  notices: string[];
}

/** A picture as the wire has it. */
export interface WirePicture {
  b64_json: string;
  seed?: number;
  size?: string;
  model?: string;
  drawn_size?: string;
  upscaled_from?: string;
  upscale_method?: string;
}

export interface WireUsage {
  input_tokens: number;
  output_tokens: number;
  total_tokens: number;
}

export interface WirePictures {
  created: number;
  data: WirePicture[];
  usage?: WireUsage;
  notices?: string[];
}

export interface WireModel {
  id: string;
  owned_by: string;
  license: string | null;
  native_size: string;
  draws_any_size: boolean;
  min_side: number;
  max_side: number;
  max_upscaled_side: number;
  max_images: number;
  default_steps: number;
  max_steps: number;
}

export function toPictures({ created, data, usage, notices = [] }: WirePictures): Pictures {
  return { created, images: data.map((picture) => new Picture(picture)), usage: toUsage(usage), notices };
}

export function toUsage(usage: WireUsage | undefined): Usage | undefined {
  return (
    usage && {
      inputTokens: usage.input_tokens,
      outputTokens: usage.output_tokens,
      totalTokens: usage.total_tokens,
    }
  );
}

export function toModel(model: WireModel): Model {
  return {
    id: model.id,
    ownedBy: model.owned_by,
    license: model.license ?? undefined,
    nativeSize: model.native_size,
    drawsAnySize: model.draws_any_size,
    minSide: model.min_side,
    maxSide: model.max_side,
    maxUpscaledSide: model.max_upscaled_side,
    maxImages: model.max_images,
    defaultSteps: model.default_steps,
    maxSteps: model.max_steps,
  };
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.codePointAt(0)!);
}
