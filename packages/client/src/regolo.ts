/** Regolo's Python client, as far as pictures go, in TypeScript: the same names, the same defaults. */
import { Easel } from "./easel.ts";

export interface RegoloImageParams {
  prompt: string;
  /** Default 1. */
  n?: number;
  /** Default "standard". */
  quality?: string;
  /** Default "1024x1024". */
  size?: string;
  /** Default "realistic". */
  style?: string;
}

export interface RegoloClientOptions {
  apiKey?: string | undefined;
  model?: string | undefined;
  baseURL?: string | undefined;
}

/**
 * Module-wide settings and the function that uses them, as in Python's `import regolo`.
 *
 * @example
 * regolo.defaultKey = "YOUR_KEY";
 * regolo.defaultImageModel = "easel-sketch";
 * const [bytes] = await regolo.staticImageCreate({ prompt: "A white cat resting in Rome" });
 */
export const regolo = {
  defaultKey: undefined as string | undefined,
  defaultImageModel: undefined as string | undefined,
  /** The server's address. */
  baseURL: undefined as string | undefined,

  /** Draws pictures; returns each file's bytes. */
  async staticImageCreate(params: RegoloImageParams): Promise<Uint8Array[]> {
    return await new RegoloClient().createImage(params);
  },
};

/** A client with settings of its own; what it is not given it takes from `regolo`. */
export class RegoloClient {
  readonly #easel: Easel;
  readonly #model: string | undefined;

  constructor(options: RegoloClientOptions = {}) {
    this.#easel = new Easel({
      apiKey: options.apiKey ?? regolo.defaultKey,
      baseURL: options.baseURL ?? regolo.baseURL,
    });
    this.#model = options.model ?? regolo.defaultImageModel;
  }

  /** Draws pictures; returns each file's bytes. */
  async createImage(params: RegoloImageParams): Promise<Uint8Array[]> {
    const { n = 1, quality = "standard", size = "1024x1024", style = "realistic", prompt } = params;
    const { images } = await this.#easel.generate({ prompt, n, quality, size, style, model: this.#model });
    return images.map((image) => image.bytes);
  }
}
