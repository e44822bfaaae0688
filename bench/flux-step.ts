/**
 * One denoising step of a transformer of FLUX.1-dev's width, with random weights: seconds, rate and memory.
 *
 * All weights are windows onto one small random file, so nothing large is made on disk; in memory every layer has its own.
 */
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import type { FluxConfig } from "../src/models/flux/config.ts";
import { fluxTransformer, ropeTable, timeEmbeddingDim, timestepEmbedding } from "../src/models/flux/transformer.ts";
import { type ExternalTensor, GraphBuilder } from "../src/onnx/graph-builder.ts";
import type { DType } from "../src/onnx/model-proto.ts";
import { Session } from "../src/onnx/session.ts";
import { imageIds } from "../src/pipelines/latents.ts";
import type { LinearOptions, LinearShape, LinearWeight, NetworkWeights } from "../src/weights/network-weights.ts";

export interface FluxStepOptions {
  width: number;
  height: number;
  precision: "fp32" | "int8";
  /** FLUX.1-dev has 19 and 38. */
  doubleBlocks: number;
  singleBlocks: number;
  textTokens: number;
  threads: number | undefined;
  steps: number;
}

export interface FluxStepFigures {
  case: string;
  /** Median. */
  secondsPerStep: number;
  /** 10⁹ operations a second in the blocks' linear layers, over the whole step. */
  gflops: number;
  /** Of the rate that a large product of the same kind reaches alone on this machine. */
  peakShare: number;
  peakGflops: number;
  threads: number;
  maxRssBytes: number;
}

const hidden = 3072;

export async function benchFluxStep(options: FluxStepOptions): Promise<FluxStepFigures> {
  const threads = options.threads ?? availableParallelism();
  const scratch = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    const weights = new RandomWeights(scratch, options.precision);
    const peakGflops = await measurePeak(weights, threads);

    const config: FluxConfig = {
      inChannels: 64,
      outChannels: 64,
      numLayers: options.doubleBlocks,
      numSingleLayers: options.singleBlocks,
      attentionHeadDim: 128,
      numAttentionHeads: hidden / 128,
      jointAttentionDim: 4096,
      pooledProjectionDim: 768,
      guidanceEmbeds: true,
      axesDimsRope: [16, 56, 56],
    };
    const session = await Session.create(fluxTransformer(config, weights), { device: "cpu", threads });
    const inputs = stepInputs(config, options);
    await session.run(inputs); // warms up
    const times: number[] = [];
    for (let i = 0; i < options.steps; i++) {
      const start = performance.now();
      await session.run(inputs);
      times.push((performance.now() - start) / 1000);
    }
    await session.dispose();
    const secondsPerStep = times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
    const gflops = linearOperations(options) / secondsPerStep / 1e9;
    return {
      case: `flux-step ${options.width}x${options.height} ${options.precision} ${options.doubleBlocks}+${options.singleBlocks}`,
      secondsPerStep,
      gflops,
      peakShare: gflops / peakGflops,
      peakGflops,
      threads,
      maxRssBytes: process.resourceUsage().maxRSS * 1024,
    };
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Operations of the blocks' linear layers over all tokens, two for each multiplication. */
function linearOperations({ width, height, textTokens, doubleBlocks, singleBlocks }: FluxStepOptions): number {
  const tokens = (width / 16) * (height / 16) + textTokens;
  // Double: q, k, v, out and an MLP of 4, for text and image tokens alike. Single: q, k, v, MLP of 4, and out of 5.
  return 2 * tokens * hidden ** 2 * (doubleBlocks * (4 + 8) + singleBlocks * (3 + 4 + 5));
}

function stepInputs(config: FluxConfig, { width, height, textTokens }: FluxStepOptions) {
  const [rows, columns] = [height / 16, width / 16];
  const ids = new Float32Array(3 * (textTokens + rows * columns));
  ids.set(imageIds(rows, columns), 3 * textTokens);
  const { cos, sin } = ropeTable(ids, config.axesDimsRope);
  const ropeDims = [ids.length / 3, config.attentionHeadDim / 2];
  const time = { data: timestepEmbedding(0.5), dims: [1, timeEmbeddingDim] };
  return {
    img: random([1, rows * columns, config.inChannels]),
    txt: random([1, textTokens, config.jointAttentionDim]),
    pooled: random([1, config.pooledProjectionDim]),
    timestep: time,
    guidance: time,
    pe_cos: { data: cos, dims: ropeDims },
    pe_sin: { data: sin, dims: ropeDims },
  };
}

function random(dims: number[]) {
  return { data: Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => 2 * Math.random() - 1), dims };
}

/** The rate of one large product alone, as ONNX Runtime's kernels do it: what the whole step is measured against. */
async function measurePeak(weights: RandomWeights, threads: number): Promise<number> {
  const tokens = 1024;
  const width = 4 * hidden;
  const g = new GraphBuilder("peak");
  const stored = weights.linear("peak", [width, hidden]);
  const x = g.input("x", "float32", [tokens, hidden]);
  const y =
    stored.format === "float"
      ? g.linear(x, g.weight(stored.weight))
      : g.linearInt8(x, g.weight(stored.values), g.weight(stored.scale));
  g.output("y", y);
  const session = await Session.create(g.build(), { device: "cpu", threads });
  const inputs = { x: random([tokens, hidden]) };
  let best = Number.POSITIVE_INFINITY;
  for (let i = 0; i < 6; i++) {
    const start = performance.now();
    await session.run(inputs);
    best = Math.min(best, (performance.now() - start) / 1000);
  }
  await session.dispose();
  return (2 * tokens * hidden * width) / best / 1e9;
}

/** Weights of any name and shape, all from one file. */
class RandomWeights implements NetworkWeights {
  readonly #file: string;
  readonly #precision: "fp32" | "int8";
  readonly #floatBytes: number;

  constructor(folder: string, precision: "fp32" | "int8") {
    this.#file = join(folder, "weights.bin");
    this.#precision = precision;
    const largest = 6 * hidden * hidden; // a double block's modulation
    const floats = Float32Array.from({ length: largest }, () => (2 * Math.random() - 1) / 64);
    const integers = Int8Array.from({ length: largest }, () => 255 * Math.random() - 127);
    this.#floatBytes = floats.byteLength;
    writeFileSync(this.#file, Buffer.concat([Buffer.from(floats.buffer), Buffer.from(integers.buffer)]));
  }

  has(): boolean {
    return true;
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    return this.#window(name, "float32", shape, 0, 4);
  }

  linear(name: string, shape: LinearShape, { exact = false }: LinearOptions = {}): LinearWeight {
    if (exact || this.#precision === "fp32") return { format: "float", weight: this.get(name, shape) };
    const [outFeatures, inFeatures] = shape;
    return {
      format: "int8",
      values: this.#window(name, "int8", [inFeatures, outFeatures], this.#floatBytes, 1),
      scale: this.get(`${name}.scale`, [outFeatures]),
    };
  }

  #window(name: string, dtype: DType, shape: readonly number[], offset: number, bytes: number): ExternalTensor {
    return { name, dtype, shape, file: this.#file, offset, length: bytes * shape.reduce((a, b) => a * b, 1) };
  }
}
