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
import { measurePeak, type ProductPrecision } from "./peak.ts";
import { fluxDevConfig, hidden, RandomWeights, type StepSize, stepInputs } from "./random-flux.ts";

export interface FluxStepOptions extends StepSize {
  precision: ProductPrecision;
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
  /** Of `peakGflops`, what a bare product of the same kind reaches on this machine (`measurePeak`). */
  peakShare: number;
  peakGflops: number;
  threads: number;
  maxRssBytes: number;
}

export async function benchFluxStep(options: FluxStepOptions): Promise<FluxStepFigures> {
  const threads = options.threads ?? availableParallelism();
  const scratch = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    const peakGflops = await measurePeak(options.precision, threads);
    const weights = new RandomWeights(scratch, options.precision);
    const config = fluxDevConfig(options.doubleBlocks, options.singleBlocks);
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
