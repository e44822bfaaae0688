/** Predicts velocities: the transformer with its inputs, whole, or in parts of which the large one is left out now and then. */
import type { FluxConfig } from "../models/flux/config.ts";
import {
  fluxTransformer,
  fluxTransformerParts,
  ropeTable,
  timeEmbeddingDim,
  timestepEmbedding,
} from "../models/flux/transformer.ts";
import type { HostTensor } from "../onnx/session.ts";
import type { ScaledLora } from "../weights/lora.ts";
import type { EncodedPrompt } from "./encode-prompt.ts";
import { imageIds, textIds } from "./latents.ts";
import type { Network, ResidentNetworks } from "./resident-networks.ts";

export interface DenoisingOptions {
  /** Tokens of the picture: rows × columns. */
  rows: number;
  columns: number;
  /** Tokens of the text. */
  textLength: number;
  guidanceScale: number;
  /** See `Denoising`. 0: every step is computed whole. */
  stepCache: number;
}

type Inputs = Record<string, HostTensor<Float32Array>>;

export class Denoiser {
  readonly #config: FluxConfig;
  readonly #networks: ResidentNetworks;
  readonly #whole: Network;
  readonly #parts: Record<keyof typeof fluxTransformerParts, Network>;

  constructor(config: FluxConfig, networks: ResidentNetworks, loras: readonly ScaledLora[]) {
    const network = (place: string, graph: typeof fluxTransformer): Network => {
      return { place, component: "transformer", graph: (weights) => graph(config, weights), loras };
    };
    this.#config = config;
    this.#networks = networks;
    this.#whole = network("transformer", fluxTransformer);
    this.#parts = {
      first: network("transformer, first block", fluxTransformerParts.first),
      // In the whole one's place: nobody needs both, and both would not fit.
      others: network("transformer", fluxTransformerParts.others),
      projection: network("transformer, projection", fluxTransformerParts.projection),
    };
  }

  /** Checks the weights. Throws `ModelInvalidError`, `WeightsInvalidError`. */
  async prepare(): Promise<void> {
    await this.#networks.prepare(this.#whole);
  }

  /** Whether the model has a first block whose change can be watched. */
  get canCacheSteps(): boolean {
    return this.#config.numLayers > 0;
  }

  /** One picture's denoising. */
  start(options: DenoisingOptions): Denoising {
    const { numAttentionHeads, attentionHeadDim } = this.#config;
    const tokens = options.textLength + options.rows * options.columns;
    // The widest layer's activations for every token, a few at a time.
    const workBytes = 16 * numAttentionHeads * attentionHeadDim * tokens * Float32Array.BYTES_PER_ELEMENT;
    const run = async (network: Network, inputs: Inputs) => {
      return await (await this.#networks.get(network, workBytes)).run(inputs);
    };
    const { first, others, projection } = this.#parts;
    const cachesSteps = options.stepCache > 0 && this.canCacheSteps;
    return new Denoising(this.#config, options, {
      whole: (inputs) => run(this.#whole, inputs),
      first: (inputs) => run(first, inputs),
      others: (inputs) => run(others, inputs),
      projection: (inputs) => run(projection, inputs),
      cachesSteps,
    });
  }
}

type Run = (inputs: Inputs) => Promise<Record<string, HostTensor<Float32Array>>>;

interface Runs {
  whole: Run;
  first: Run;
  others: Run;
  projection: Run;
  cachesSteps: boolean;
}

/** What the last whole computation for a text left behind. */
interface Remembered {
  /** What the first block added to the image tokens. */
  firstChange: Float32Array;
  /** What all others added. */
  othersChange: Float32Array;
}

/**
 * One picture's steps. With a step cache, the first block tells how much a step differs from the last one that was computed
 * whole; where that is less than the threshold, what the other blocks added then is added again (first-block caching, after
 * ParaAttention's; cf. TeaCache, Liu et al. 2024, arXiv:2411.19108).
 */
export class Denoising {
  readonly #config: FluxConfig;
  readonly #options: DenoisingOptions;
  readonly #runs: Runs;
  readonly #rope: Inputs;
  readonly #guidance: Inputs;
  readonly #remembered = new Map<EncodedPrompt, Remembered>();
  #passes = 0;
  #reused = 0;

  constructor(config: FluxConfig, options: DenoisingOptions, runs: Runs) {
    this.#config = config;
    this.#options = options;
    this.#runs = runs;
    this.#rope = ropeInputs(config, options);
    this.#guidance = config.guidanceEmbeds ? { guidance: timeInput(options.guidanceScale) } : {};
  }

  /** How many passes through the transformer there were, and in how many the step cache served. */
  get passes(): { all: number; reused: number } {
    return { all: this.#passes, reused: this.#reused };
  }

  /** The velocity at `latents` [tokens, in_channels] and noise level `sigma` for a text. */
  async velocity(latents: Float32Array, sigma: number, text: EncodedPrompt): Promise<Float32Array> {
    const { rows, columns } = this.#options;
    const modulation = { pooled: text.pooledPromptEmbeds, timestep: timeInput(sigma), ...this.#guidance };
    const tokens = {
      img: { data: latents, dims: [1, rows * columns, this.#config.inChannels] },
      txt: text.promptEmbeds,
    };
    this.#passes++;
    const { velocity } = this.#runs.cachesSteps
      ? await this.#throughParts(tokens, modulation, text)
      : await this.#runs.whole({ ...tokens, ...modulation, ...this.#rope });
    return velocity!.data;
  }

  async #throughParts(tokens: Inputs, modulation: Inputs, text: EncodedPrompt) {
    const { first, others, projection } = this.#runs;
    const { img_embedded, img_first, txt_first } = await first({ ...tokens, ...modulation, ...this.#rope });
    const firstChange = difference(img_first!.data, img_embedded!.data);
    const remembered = this.#remembered.get(text);
    if (remembered !== undefined && distance(firstChange, remembered.firstChange) < this.#options.stepCache) {
      this.#reused++;
      const data = sum(img_first!.data, remembered.othersChange);
      return await projection({ img_last: { data, dims: img_first!.dims }, ...modulation });
    }
    const blocks = { img_first: img_first!, txt_first: txt_first!, ...modulation, ...this.#rope };
    const { img_last } = await others(blocks);
    this.#remembered.set(text, { firstChange, othersChange: difference(img_last!.data, img_first!.data) });
    return await projection({ img_last: img_last!, ...modulation });
  }
}

function timeInput(value: number): HostTensor<Float32Array> {
  return { data: timestepEmbedding(value), dims: [1, timeEmbeddingDim] };
}

function ropeInputs({ axesDimsRope, attentionHeadDim }: FluxConfig, options: DenoisingOptions): Inputs {
  const text = textIds(options.textLength);
  const image = imageIds(options.rows, options.columns);
  const ids = new Float32Array(text.length + image.length); // [T+I, 3]
  ids.set(text);
  ids.set(image, text.length);
  const { cos, sin } = ropeTable(ids, axesDimsRope);
  const dims = [ids.length / 3, attentionHeadDim / 2];
  return { pe_cos: { data: cos, dims }, pe_sin: { data: sin, dims } };
}

function difference(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value - b[i]!);
}

function sum(a: Float32Array, b: Float32Array): Float32Array {
  return a.map((value, i) => value + b[i]!);
}

/** Σ|a − b| / Σ|b| */
function distance(a: Float32Array, b: Float32Array): number {
  let [apart, size] = [0, 0];
  for (let i = 0; i < a.length; i++) {
    apart += Math.abs(a[i]! - b[i]!);
    size += Math.abs(b[i]!);
  }
  return apart / size;
}
