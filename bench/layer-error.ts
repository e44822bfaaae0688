/** What one linear layer in small integers does to a step, all others in float. */
import { cpSync, mkdirSync, rmSync } from "node:fs";
import { join } from "node:path";
import { ConfigReader } from "../src/models/config-reader.ts";
import { type FluxConfig, parseFluxConfig } from "../src/models/flux/config.ts";
import { fluxTransformer } from "../src/models/flux/transformer.ts";
import type { OnnxGraph } from "../src/onnx/graph-builder.ts";
import { multipliesBytesExactly } from "../src/onnx/processor.ts";
import { Denoiser } from "../src/pipelines/denoiser.ts";
import { type EncodedPrompt, PromptEncoder } from "../src/pipelines/encode-prompt.ts";
import { readGenerationDefaults } from "../src/pipelines/model-card.ts";
import type { GraphFunction } from "../src/pipelines/network-graphs.ts";
import { NetworkLoader } from "../src/pipelines/network-loader.ts";
import { ResidentNetworks } from "../src/pipelines/resident-networks.ts";
import { TorchGenerator } from "../src/pipelines/torch-random.ts";
import { StoredWeights, WeightConverter } from "../src/weights/converted-weights.ts";
import { MappedWeights } from "../src/weights/mapped-weights.ts";
import { openNetwork } from "../src/weights/model-files.ts";
import type { LinearOptions, LinearShape, LinearWeight, NetworkWeights } from "../src/weights/network-weights.ts";
import type { Component } from "../src/weights/single-file.ts";

export interface LayerErrorOptions {
  modelDir: string;
  cacheDir: string;
  precision: "int8" | "int4";
  prompts: readonly string[];
}

/** In the middle of drawing, and where most of the picture is decided. */
const sigmas = [0.5, 0.9];
const side = 16;

/**
 * For each linear layer that takes the precision: the velocity's relative error, √(Σ(v − v₀)² / Σv₀²) over the prompts and two
 * noise levels, when this layer alone is quantized. Per cent, by the name of the weight.
 */
export async function layerErrors({
  modelDir,
  cacheDir,
  precision,
  prompts,
}: LayerErrorOptions): Promise<Map<string, number>> {
  // A graph's weights lie in one folder: the model's own and the converted ones are brought together.
  const folder = join(cacheDir, "layer-error");
  rmSync(folder, { recursive: true, force: true });
  mkdirSync(cacheDir, { recursive: true });
  cpSync(join(modelDir, "transformer"), join(folder, "transformer"), { recursive: true });
  try {
    const config = parseFluxConfig(ConfigReader.read(join(folder, "transformer")));
    const float = MappedWeights.of(openNetwork(folder, "transformer"));
    if (float === undefined) throw new Error("layer errors need a model whose weights are plain floats");
    const stored = await convert(folder, config, precision);
    const texts = await encode(modelDir, prompts);

    const names = new Set<string>();
    const exact = await velocities(config, new Mixed(float, stored, (name) => (names.add(name), false)), texts);
    const errors = new Map<string, number>();
    for (const only of names) {
      const velocity = await velocities(config, new Mixed(float, stored, (name) => name === only), texts);
      errors.set(only.replace(/\.weight$/, ""), 100 * relativeError(velocity, exact));
    }
    return errors;
  } finally {
    rmSync(folder, { recursive: true });
  }
}

async function convert(folder: string, config: FluxConfig, linear: "int8" | "int4"): Promise<StoredWeights> {
  const transformer = join(folder, "transformer");
  const int8Limit = multipliesBytesExactly() ? 127 : 63;
  const converter = new WeightConverter(openNetwork(folder, "transformer"), { linear, int8Limit });
  fluxTransformer(config, converter);
  await converter.write(transformer);
  return StoredWeights.open(transformer)!;
}

async function encode(modelDir: string, prompts: readonly string[]): Promise<EncodedPrompt[]> {
  const loader = new NetworkLoader({ modelDir, device: "cpu", threads: 0, precision: "fp32", cacheDir: undefined });
  const networks = new ResidentNetworks(loader, () => Infinity);
  const encoder = new PromptEncoder(modelDir, networks);
  const { maxSequenceLength } = readGenerationDefaults(modelDir);
  const texts: EncodedPrompt[] = [];
  for (const prompt of prompts) texts.push(await encoder.encode(prompt, maxSequenceLength));
  await networks.dispose();
  return texts;
}

/** The velocities for all texts and noise levels, of the same noise each. */
async function velocities(
  config: FluxConfig,
  weights: NetworkWeights,
  texts: readonly EncodedPrompt[],
): Promise<Float32Array[]> {
  const networks = new ResidentNetworks(new LoaderOf(weights), () => Infinity);
  const denoiser = new Denoiser(config, networks, []);
  const results: Float32Array[] = [];
  for (const [i, text] of texts.entries()) {
    const textLength = text.promptEmbeds.dims[1]!;
    const denoising = denoiser.start({ rows: side, columns: side, textLength, guidanceScale: 3.5, stepCache: 0 });
    const latents = new TorchGenerator(i).randn(side * side * config.inChannels);
    for (const sigma of sigmas) results.push(await denoising.velocity(latents, sigma, text));
  }
  await networks.dispose();
  return results;
}

function relativeError(actual: readonly Float32Array[], exact: readonly Float32Array[]): number {
  let [apart, size] = [0, 0];
  for (const [i, velocity] of exact.entries()) {
    for (const [j, value] of velocity.entries()) {
      apart += (actual[i]![j]! - value) ** 2;
      size += value ** 2;
    }
  }
  return Math.sqrt(apart / size);
}

/** Weights in float, but for the linear layers that `quantizes` says yes to. */
class Mixed implements NetworkWeights {
  readonly #float: NetworkWeights;
  readonly #stored: NetworkWeights;
  readonly #quantizes: (name: string) => boolean;

  constructor(float: NetworkWeights, stored: NetworkWeights, quantizes: (name: string) => boolean) {
    this.#float = float;
    this.#stored = stored;
    this.#quantizes = quantizes;
  }

  has(name: string): boolean {
    return this.#float.has(name);
  }

  get(name: string, shape: readonly number[]) {
    return this.#float.get(name, shape);
  }

  linear(name: string, shape: LinearShape, options: LinearOptions = {}): LinearWeight {
    const quantized = options.exact !== true && this.#quantizes(name);
    return (quantized ? this.#stored : this.#float).linear(name, shape, options);
  }
}

/** Writes every graph on the weights that it has. */
class LoaderOf extends NetworkLoader {
  readonly #weights: NetworkWeights;

  constructor(weights: NetworkWeights) {
    super({ modelDir: "", device: "cpu", threads: 0, precision: "fp32", cacheDir: undefined });
    this.#weights = weights;
  }

  override prepare(_component: Component, graph: GraphFunction): Promise<OnnxGraph> {
    return Promise.resolve(graph(this.#weights));
  }
}
