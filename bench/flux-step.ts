/**
 * One denoising step of a transformer of FLUX.1-dev's width, with random weights: seconds, rate and memory.
 *
 * All weights are windows onto one small random file, so nothing large is made on disk; in memory every layer has its own.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { join } from "node:path";
import { fluxTransformer } from "../src/models/flux/transformer.ts";
import { Session } from "../src/onnx/session.ts";
import { chooseDevice } from "../src/onnx/device-choice.ts";
import type { ResolvedDevice } from "../src/onnx/devices.ts";
import { gpuMemoryMb } from "./measure.ts";
import { measurePeak } from "./peak.ts";
import {
  fluxDevConfig,
  hidden,
  type RandomPrecision,
  RandomWeights,
  type StepSize,
  stepInputs,
} from "./random-flux.ts";

export interface FluxStepOptions extends StepSize {
  precision: RandomPrecision;
  device: ResolvedDevice;
  /** FLUX.1-dev has 19 and 38. */
  doubleBlocks: number;
  singleBlocks: number;
  threads: number | undefined;
  steps: number;
}

export interface FluxStepFigures {
  case: string;
  /** Median. */
  secondsPerStep: number;
  /** 10⁹ operations a second in the blocks' linear layers, over the whole step. */
  gflops: number;
  /** Of `peakGflops`, what a bare product of the same kind reaches on this machine (`measurePeak`); null where that is not measured. */
  peakShare: number | null;
  /** Null on other devices than the CPU, which would be measured by how fast they are fed. */
  peakGflops: number | null;
  device: ResolvedDevice;
  /** What the GPU's programs together had taken after the last step, as nvidia-smi tells; null without it. */
  gpuMemoryBytes: number | null;
  threads: number;
  maxRssBytes: number;
}

export async function benchFluxStep(options: FluxStepOptions): Promise<FluxStepFigures> {
  const threads = options.threads ?? availableParallelism();
  const scratch = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    const { device, attentionOnCpu } = await chooseDevice(options.device, {
      small: false,
      cpuFormat: options.precision === "int8" ? "int8" : undefined,
      needsHalfPrecision: options.precision === "fp16",
      gpuBytes: 0,
    });
    // The CPU computes fp16 in fp32, and int4 in products of 8-bit integers.
    const product = options.precision === "int8" || options.precision === "int4" ? "int8" : "fp32";
    const peakGflops = device === "cpu" ? await measurePeak(product, threads) : null;
    const weights = new RandomWeights(scratch, options.precision);
    const config = fluxDevConfig(options.doubleBlocks, options.singleBlocks);
    const session = await Session.create(fluxTransformer(config, weights), { device, attentionOnCpu, threads });
    const inputs = stepInputs(config, options);
    await session.run(inputs); // warms up
    const times: number[] = [];
    for (let i = 0; i < options.steps; i++) {
      const start = performance.now();
      await session.run(inputs);
      times.push((performance.now() - start) / 1000);
    }
    const gpuMb = gpuMemoryMb();
    await session.dispose();
    const secondsPerStep = times.sort((a, b) => a - b)[Math.floor(times.length / 2)]!;
    const gflops = linearOperations(options) / secondsPerStep / 1e9;
    return {
      case: `flux-step ${options.width}x${options.height} ${options.precision} ${options.doubleBlocks}+${options.singleBlocks}`,
      secondsPerStep,
      gflops,
      peakShare: peakGflops === null ? null : gflops / peakGflops,
      peakGflops,
      device,
      gpuMemoryBytes: device === "cpu" || gpuMb === undefined ? null : gpuMb * 2 ** 20,
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
