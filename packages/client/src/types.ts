/** What goes to the server and what comes back, in the wire's own names where the wire is visible. */

/** Settings that every way of drawing shares. */
export interface DrawingOptions {
  /** Default: the server's. */
  model?: string | undefined;
  /** How many pictures, 1 to 10. */
  n?: number | undefined;
  /** "512x512", or "auto" for the model's own size. */
  size?: string | undefined;
  /** Picture i of n is drawn with seed + i; the same seed draws the same picture. */
  seed?: number | undefined;
  steps?: number | undefined;
  guidanceScale?: number | undefined;
  negativePrompt?: string | undefined;
  /** LoRAs of the server, by name: "watercolour" or "watercolour:0.8". */
  lora?: string | readonly string[] | undefined;
  /** Enlarges the finished picture. */
  upscale?: 2 | 4 | undefined;
  quality?: string | undefined;
  style?: string | undefined;
  outputFormat?: "png" | "jpeg" | "webp" | undefined;
  /** 0 to 100, for JPEG and WebP. */
  outputCompression?: number | undefined;
}

export interface GenerateParams extends DrawingOptions {
  prompt: string;
}

export interface EditParams extends DrawingOptions {
  prompt: string;
  /** The picture to start from: PNG, JPEG or WebP. */
  image: Blob | Uint8Array;
  /** A PNG whose transparent pixels are to be repainted; the others stay. */
  mask?: Blob | Uint8Array | undefined;
  /** How far to leave the picture, above 0 and at most 1. */
  strength?: number | undefined;
}

export interface UpscaleParams {
  image: Blob | Uint8Array;
  scale: 2 | 4;
}

/** One picture of an answer. */
export class Picture {
  /** The file's bytes. */
  readonly bytes: Uint8Array<ArrayBuffer>;
  readonly seed: number | undefined;
  readonly size: string | undefined;
  readonly model: string | undefined;
  /** The size the model drew, when the picture was then enlarged or reduced. */
  readonly drawnSize: string | undefined;

  constructor(data: WirePicture) {
    this.bytes = decodeBase64(data.b64_json);
    this.seed = data.seed;
    this.size = data.size;
    this.model = data.model;
    this.drawnSize = data.drawn_size;
  }

  /** For `URL.createObjectURL` and uploads. */
  blob(): Blob {
    return new Blob([this.bytes]);
  }
}

export interface Pictures {
  /** Unix time, in seconds. */
  created: number;
  images: Picture[];
  /** What there is to know: what was truncated, enlarged, ignored. */
  notices: string[];
}

/** While a picture is being drawn: what it looks like so far, and then the picture. */
export type DrawingEvent = { type: "partial"; index: number; image: Picture } | { type: "completed"; image: Picture };

/** A picture as the wire has it. */
export interface WirePicture {
  b64_json: string;
  seed?: number;
  size?: string;
  model?: string;
  drawn_size?: string;
}

export interface WirePictures {
  created: number;
  data: WirePicture[];
  notices?: string[];
}

export function toPictures({ created, data, notices = [] }: WirePictures): Pictures {
  return { created, images: data.map((picture) => new Picture(picture)), notices };
}

/** The options under the wire's names; what is undefined is left out. */
export function toWire(
  params: DrawingOptions & { prompt?: string; strength?: number | undefined },
): Record<string, unknown> {
  const { guidanceScale, negativePrompt, outputFormat, outputCompression, ...same } = params;
  const wire: Record<string, unknown> = {
    ...same,
    guidance_scale: guidanceScale,
    negative_prompt: negativePrompt,
    output_format: outputFormat,
    output_compression: outputCompression,
  };
  return Object.fromEntries(Object.entries(wire).filter(([, value]) => value !== undefined));
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> {
  return Uint8Array.from(atob(text), (character) => character.codePointAt(0)!);
}
