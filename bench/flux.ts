/** A FLUX model from prompt to picture: what each part takes, and the memory of the whole. */
import { availableParallelism } from "node:os";
import type { DeviceName } from "../src/onnx/devices.ts";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import type { Precision } from "../src/pipelines/precision.ts";
import { type Figure, figure, gpuMemoryMb } from "./measure.ts";

export interface FluxOptions {
  /** A model folder, such as the one that `stand-in` writes. */
  modelDir: string;
  cacheDir: string;
  width: number;
  height: number;
  precision: Precision;
  device: DeviceName;
  textTokens: number;
  threads: number | undefined;
  steps: number;
  memoryLimitBytes: number | undefined;
}

/**
 * Draws two pictures of one prompt. The first one's figures include what is loaded on the way; the second finds the prompt
 * encoded. Converted weights are kept in `cacheDir`: the figure for opening is small when they are there already.
 */
export async function benchFlux(options: FluxOptions): Promise<Figure[]> {
  const { modelDir, cacheDir, width, height, precision, device, textTokens, steps, memoryLimitBytes } = options;
  const threads = options.threads ?? availableParallelism();
  let last = performance.now();
  const lap = () => -(last - (last = performance.now())) / 1000;

  const pipeline = await FluxPipeline.load({ modelDir, cacheDir, precision, threads, memoryLimitBytes, device });
  const opening = lap();
  const request = {
    prompt: "A white cat resting in Rome",
    width,
    height,
    seed: 0,
    numImages: 1,
    numInferenceSteps: steps,
  };
  const draw = async () => {
    const laps: number[] = [];
    await pipeline.generate({ ...request, maxSequenceLength: textTokens }, { onProgress: () => laps.push(lap()) });
    const [first, ...others] = laps;
    return { first: first!, others, decode: lap() };
  };
  const cold = await draw();
  const warm = await draw();
  const gpuMb = pipeline.device.device === "cpu" ? undefined : gpuMemoryMb();
  await pipeline.dispose();

  const stepTimes = [...cold.others, warm.first, ...warm.others];
  const step = figure("a step", "s", stepTimes);
  return [
    figure("opening the model, with conversion where it was needed", "s", [opening]),
    figure("loading the text encoders and the transformer, and encoding the prompt", "s", [cold.first - step.median]),
    step,
    figure("decoding, the decoder's loading included", "s", [cold.decode]),
    figure("decoding again", "s", [warm.decode]),
    figure("peak memory", "MB", [process.resourceUsage().maxRSS / 1024]),
    ...(gpuMb === undefined ? [] : [figure("memory taken on the GPU at the end", "MB", [gpuMb])]),
  ];
}
