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
import { cpuPrecisions, type Precision } from "./precision.ts";

export interface MemoryPlan {
  /** Bytes of each network's weights while it is loaded. */
  networks: Readonly<Partial<Record<Component, number>>>;
  /** What must be available for the model to draw at all: its largest network, and what running it takes. Bytes. */
  neededBytes: number;
}

/** Of each of a model's networks; of a model that is not here, of its largest. */
export type WeightCounts = Readonly<Partial<Record<Component, WeightCount>>>;

/** What the engine process takes besides weights, and activations of a picture of about FLUX.1's own size: estimates. */
const processBytes = 256 * 2 ** 20;
const activationShare = 0.05;
/** Activations, the runtime's own buffers, and what the screen has of a GPU: an estimate. */
const gpuShare = 0.15;

/**
 * The weights of the model in `modelDir`.
 *
 * @throws ModelInvalidError, WeightsInvalidError when its files cannot be used.
 */
export function countWeights(modelDir: string): Record<Component, WeightCount> {
  const counts = components.map((component) => {
    const counter = new WeightCounter(openNetwork(modelDir, component));
    for (const graph of networkGraphs(modelDir, component)) graph(counter);
    return [component, counter.count] as const;
  });
  return Object.fromEntries(counts) as Record<Component, WeightCount>;
}

/** The plan of a model on the CPU. */
export function planMemory(counts: WeightCounts, precision: Precision): MemoryPlan {
  const bytes = networkSizes(counts, precision, loadingBytes);
  const largest = Math.max(...bytes.map(([, size]) => size));
  return {
    networks: Object.fromEntries(bytes),
    neededBytes: Math.ceil(largest * (1 + activationShare)) + processBytes,
  };
}

/** Bytes of the largest network's weights once it is loaded, as a GPU has them. */
export function largestNetworkBytes(counts: WeightCounts, precision: Precision): number {
  return Math.max(...networkSizes(counts, precision, weightBytes).map(([, size]) => size));
}

/** What a GPU's memory must be for a model: its largest network, and room to work. Bytes. */
export function neededGpuBytes(counts: WeightCounts, precision: Precision): number {
  return Math.ceil(largestNetworkBytes(counts, precision) * (1 + gpuShare));
}

/**
 * Refuses a model that cannot fit.
 *
 * @throws EaselError `insufficient_memory`, with what is needed, what is available, and which precision would fit.
 */
export function requireMemory(modelDir: string, precision: Precision, memory: Memory): void {
  const counts = countWeights(modelDir);
  const { neededBytes } = planMemory(counts, precision);
  if (neededBytes <= memory.availableBytes) return;

  const needs = cpuPrecisions
    .map((candidate) => ({ candidate, bytes: planMemory(counts, candidate).neededBytes }))
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

/** For large models on the CPU, the fastest there first. */
const largeModelPrecisions = ["int8", "int4"] as const;

/**
 * The precision for a model on the CPU when none is asked for: fp32 for a small one; for a large one int8, which is also the fastest
 * there, or int4 where int8 does not fit, or where int4 is what the model was converted to.
 */
export function choosePrecision(
  counts: WeightCounts,
  memory: Memory,
  isConverted: (precision: Precision) => boolean = () => false,
): Precision {
  const fits = (precision: Precision) => planMemory(counts, precision).neededBytes <= memory.availableBytes;
  if (planMemory(counts, "fp32").neededBytes <= smallNetworkBytes && fits("fp32")) return "fp32";
  const fitting = largeModelPrecisions.filter(fits);
  return fitting.find(isConverted) ?? fitting[0] ?? "int8";
}

function networkSizes(counts: WeightCounts, precision: Precision, size: typeof weightBytes): [Component, number][] {
  return components.flatMap((component) => {
    const count = counts[component];
    const own = exactNetworks.has(component) ? "fp32" : precision;
    return count === undefined ? [] : [[component, size(count, own)]];
  });
}

/** What weights take where they are computed with in their own format. */
function weightBytes({ linearValues, linearOutputs, floatValues }: WeightCount, precision: Precision): number {
  switch (precision) {
    case "fp32":
      return 4 * (linearValues + floatValues);
    case "fp16":
      return 2 * linearValues + 4 * floatValues;
    case "int8":
      return linearValues + 4 * (linearOutputs + floatValues);
    case "int4":
      return linearValues / 2 + 4 * (linearValues / int4Block + floatValues);
  }
}

/** What the CPU needs while it loads them: ONNX Runtime widens 16-bit floats there, and for a while has two copies of those. */
function loadingBytes(count: WeightCount, precision: Precision): number {
  const widened = { fp32: count.halfValues, fp16: count.linearValues, int8: 0, int4: 0 };
  return weightBytes(count, precision) + 4 * widened[precision];
}
