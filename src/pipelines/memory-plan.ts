/**
 * What a model takes in memory, told from its files' headers before anything is loaded. Its networks can take turns, so the
 * largest of them decides whether it fits.
 */
import { EaselError } from "../errors.ts";
import type { Memory } from "../onnx/memory.ts";
import { formatBytes } from "../weights/hub/byte-size.ts";
import { openNetwork } from "../weights/model-files.ts";
import { type Component, components } from "../weights/single-file.ts";
import { int4Block } from "../weights/quantize.ts";
import { type WeightCount, WeightCounter } from "../weights/weight-count.ts";
import { exactNetworks, networkGraphs } from "./network-graphs.ts";
import { type AvailablePrecision, availablePrecisions, type Precision } from "./precision.ts";

export interface MemoryPlan {
  /** Bytes of each network's weights while it is loaded. */
  networks: Readonly<Record<Component, number>>;
  /** What must be available for the model to draw at all: its largest network, and what running it takes. Bytes. */
  neededBytes: number;
}

/** What the engine process takes besides weights, and activations of a picture of about FLUX.1's own size: estimates. */
const processBytes = 256 * 2 ** 20;
const activationShare = 0.05;

/**
 * The plan of the model in `modelDir`.
 *
 * @throws ModelInvalidError, WeightsInvalidError when its files cannot be used.
 */
export function planMemory(modelDir: string, precision: Precision): MemoryPlan {
  return planOf(countWeights(modelDir), precision);
}

/**
 * Bytes of the largest network's weights once it is loaded, as a GPU has them.
 *
 * @throws ModelInvalidError, WeightsInvalidError when its files cannot be used.
 */
export function largestNetworkBytes(modelDir: string, precision: Precision): number {
  const counts = Object.entries(countWeights(modelDir)).map(([component, count]) => {
    return [component, { ...count, halfValues: 0 }] as const;
  });
  const { networks } = planOf(Object.fromEntries(counts) as Record<Component, WeightCount>, precision);
  return Math.max(...Object.values(networks));
}

/**
 * Refuses a model that cannot fit.
 *
 * @throws EaselError `insufficient_memory`, with what is needed, what is available, and which precision would fit.
 */
export function requireMemory(modelDir: string, precision: Precision, memory: Memory): void {
  const counts = countWeights(modelDir);
  const { neededBytes } = planOf(counts, precision);
  if (neededBytes <= memory.availableBytes) return;

  const needs = availablePrecisions
    .map((candidate) => ({ candidate, bytes: planOf(counts, candidate).neededBytes }))
    .filter(({ bytes }) => bytes < neededBytes)
    .sort((a, b) => b.bytes - a.bytes);
  const fitting = needs.find(({ bytes }) => bytes <= memory.availableBytes);
  const smallest = needs.at(-1);
  const freeing = neededBytes <= memory.totalBytes ? "end other programs" : undefined;
  const advice = [
    ...(fitting ? [`choose ${fitting.candidate}, which needs ${formatBytes(fitting.bytes)}`] : []),
    ...(freeing === undefined ? [] : [freeing]),
  ];
  const otherwise = smallest === undefined ? "" : ` (${smallest.candidate} needs ${formatBytes(smallest.bytes)})`;
  throw new EaselError(
    "insufficient_memory",
    `This model needs about ${formatBytes(neededBytes)} of memory in ${precision}, and ${formatBytes(memory.availableBytes)} of ` +
      `${formatBytes(memory.totalBytes)} are available; ` +
      `${advice.length > 0 ? advice.join(", or ") : `it takes a machine with more${otherwise}`}.`,
    { param: "model" },
  );
}

/** A model whose largest network takes no more than this in fp32 gains little from being smaller. */
const smallNetworkBytes = 2e9;

/**
 * The precision for a model on the CPU when none is asked for: fp32 for a small one; for a large one int8, which is also the fastest
 * there, or int4 where int8 does not fit.
 *
 * @throws ModelInvalidError, WeightsInvalidError when its files cannot be used.
 */
export function choosePrecision(modelDir: string, memory: Memory): AvailablePrecision {
  const counts = countWeights(modelDir);
  if (planOf(counts, "fp32").neededBytes <= Math.min(smallNetworkBytes, memory.availableBytes)) return "fp32";
  const fits = (precision: Precision) => planOf(counts, precision).neededBytes <= memory.availableBytes;
  return fits("int8") || !fits("int4") ? "int8" : "int4";
}

function countWeights(modelDir: string): Record<Component, WeightCount> {
  const counts = components.map((component) => {
    const counter = new WeightCounter(openNetwork(modelDir, component));
    for (const graph of networkGraphs(modelDir, component)) graph(counter);
    return [component, counter.count] as const;
  });
  return Object.fromEntries(counts) as Record<Component, WeightCount>;
}

function planOf(counts: Record<Component, WeightCount>, precision: Precision): MemoryPlan {
  const bytes = components.map((component) => {
    const own = exactNetworks.has(component) ? "fp32" : precision;
    return [component, networkBytes(counts[component], own)] as const;
  });
  const largest = Math.max(...bytes.map(([, size]) => size));
  return {
    networks: Object.fromEntries(bytes) as Record<Component, number>,
    neededBytes: Math.ceil(largest * (1 + activationShare)) + processBytes,
  };
}

function networkBytes(count: WeightCount, precision: Precision): number {
  const { linearValues, linearOutputs, floatValues, halfValues } = count;
  switch (precision) {
    case "fp32":
      // ONNX Runtime turns 16-bit floats into wider ones when it loads them, and for a while has two copies of those.
      return 4 * (linearValues + floatValues + halfValues);
    case "fp16":
      return 2 * (linearValues + floatValues);
    case "int8":
      return linearValues + 4 * (linearOutputs + floatValues);
    case "int4":
      return linearValues / 2 + 4 * (linearValues / int4Block + floatValues);
  }
}
