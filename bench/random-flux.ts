/** FLUX.1-dev's transformer with random weights and inputs, at any depth: what the benchmarks of one step run. */
import { closeSync, openSync, writeSync } from "node:fs";
import { join } from "node:path";
import type { FluxConfig } from "../src/models/flux/config.ts";
import { ropeTable, timeEmbeddingDim, timestepEmbedding } from "../src/models/flux/transformer.ts";
import type { ExternalTensor } from "../src/onnx/graph-builder.ts";
import type { DType } from "../src/onnx/model-proto.ts";
import { imageIds } from "../src/pipelines/latents.ts";
import type { LinearOptions, LinearShape, LinearWeight, NetworkWeights } from "../src/weights/network-weights.ts";
import { int4Block } from "../src/weights/quantize.ts";

/** FLUX.1-dev's width. */
export const hidden = 3072;

export function fluxDevConfig(doubleBlocks: number, singleBlocks: number): FluxConfig {
  return {
    inChannels: 64,
    outChannels: 64,
    numLayers: doubleBlocks,
    numSingleLayers: singleBlocks,
    attentionHeadDim: 128,
    numAttentionHeads: hidden / 128,
    jointAttentionDim: 4096,
    pooledProjectionDim: 768,
    guidanceEmbeds: true,
    axesDimsRope: [16, 56, 56],
  };
}

export interface StepSize {
  /** Pixels. */
  width: number;
  height: number;
  textTokens: number;
}

/** Inputs of a step, each uniform in ±1. */
export function stepInputs(config: FluxConfig, { width, height, textTokens }: StepSize) {
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

export function random(dims: number[]) {
  return { data: Float32Array.from({ length: dims.reduce((a, b) => a * b) }, () => 2 * Math.random() - 1), dims };
}

export const randomPrecisions = ["fp32", "fp16", "int8", "int4"] as const;
export type RandomPrecision = (typeof randomPrecisions)[number];

/** Weights of any name and shape, all from one file. */
export class RandomWeights implements NetworkWeights {
  readonly #file: string;
  readonly #precision: RandomPrecision;
  readonly #floatBytes: number;
  readonly #halfBytes: number;

  constructor(folder: string, precision: RandomPrecision) {
    this.#file = join(folder, "weights.bin");
    this.#precision = precision;
    const largest = 6 * hidden * hidden; // a double block's modulation
    this.#floatBytes = 4 * largest;
    this.#halfBytes = 2 * largest;
    const file = openSync(this.#file, "w");
    try {
      // In pieces, so that the process's memory is the step's.
      writePieces(file, largest, (size) => Float32Array.from({ length: size }, smallNumber));
      writePieces(file, largest, (size) => Float16Array.from({ length: size }, smallNumber));
      writePieces(file, largest, (size) => Int8Array.from({ length: size }, () => 255 * Math.random() - 127));
    } finally {
      closeSync(file);
    }
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
    if (this.#precision === "fp16") {
      const weight = this.#window(name, "float16", [inFeatures, outFeatures], this.#floatBytes, 2);
      return { format: "fp16", weight, transposed: true };
    }
    const integers = this.#floatBytes + this.#halfBytes;
    if (this.#precision === "int4") {
      const blocks = Math.ceil(inFeatures / int4Block);
      return {
        format: "int4",
        values: this.#window(name, "uint8", [outFeatures, blocks, int4Block / 2], integers, 1),
        scale: this.get(`${name}.scale`, [outFeatures * blocks]),
      };
    }
    return {
      format: "int8",
      values: this.#window(name, "int8", [inFeatures, outFeatures], integers, 1),
      scale: this.get(`${name}.scale`, [outFeatures]),
    };
  }

  #window(name: string, dtype: DType, shape: readonly number[], offset: number, bytes: number): ExternalTensor {
    return { name, dtype, shape, file: this.#file, offset, length: bytes * shape.reduce((a, b) => a * b, 1) };
  }
}

function smallNumber(): number {
  return (2 * Math.random() - 1) / 64;
}

function writePieces(file: number, count: number, piece: (size: number) => NodeJS.ArrayBufferView): void {
  const size = 2 ** 20;
  for (let done = 0; done < count; done += size) writeSync(file, piece(Math.min(size, count - done)));
}
