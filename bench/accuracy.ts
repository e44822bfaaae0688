/** What small numbers and spared steps cost in accuracy, on a model with real weights: the pictures beside those in fp32. */
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import type { Precision } from "../src/pipelines/precision.ts";
import { psnr } from "../tests/oracle-fixtures.ts";
import { layerErrors } from "./layer-error.ts";
import { type Figure, figure } from "./measure.ts";

export interface AccuracyOptions {
  modelDir: string;
  cacheDir: string;
  prompts: readonly string[];
}

/** Distances of whole pictures, and what each linear layer alone contributes to a step's error. */
export async function benchPrecision(options: AccuracyOptions): Promise<Figure[]> {
  const exact = await drawAll(options, "fp32");
  // The CPU does not round fp16's products: of what it costs on a GPU, this is what the weights cost.
  const halves = await drawAll(options, "fp16");
  const figures = [figure("fp16's weights: pictures beside fp32's", "dB", distances(halves, exact))];
  for (const precision of ["int8", "int4"] as const) {
    const pictures = await drawAll(options, precision);
    figures.push(figure(`${precision}: pictures beside fp32's`, "dB", distances(pictures, exact)));
    const errors = await layerErrors({ ...options, precision });
    figures.push(figure(`${precision}: a step's error by one layer`, "%", [...errors.values()]));
    for (const [name, error] of [...errors].sort(([, a], [, b]) => b - a).slice(0, 3))
      figures.push(figure(`${precision}:   ${name}`, "%", [error]));
  }
  return figures;
}

/** Distances and times at several thresholds, which take turns at each prompt, so that the machine's moods hit them alike. */
export async function benchStepCache(options: AccuracyOptions, thresholds: readonly number[]): Promise<Figure[]> {
  const { modelDir, cacheDir, prompts } = options;
  const pipeline = await FluxPipeline.load({ modelDir, cacheDir, precision: "fp32", device: "cpu" });
  const exact: Drawing[] = [];
  const cached = thresholds.map((): Drawing[] => []);
  for (const stepCache of [0, ...thresholds]) await draw(pipeline, prompts[0]!, stepCache); // loads the networks
  for (const prompt of prompts) {
    exact.push(await draw(pipeline, prompt));
    for (const [i, stepCache] of thresholds.entries()) cached[i]!.push(await draw(pipeline, prompt, stepCache));
  }
  await pipeline.dispose();
  return thresholds.flatMap((threshold, i) => [
    figure(`threshold ${threshold}: pictures beside those without`, "dB", distances(cached[i]!, exact)),
    figure(
      `threshold ${threshold}: time without over time with`,
      "x",
      cached[i]!.map(({ seconds }, j) => exact[j]!.seconds / seconds),
    ),
  ]);
}

interface Drawing {
  pixels: Uint8Array;
  seconds: number;
}

/** One picture for each prompt. */
async function drawAll({ modelDir, cacheDir, prompts }: AccuracyOptions, precision: Precision): Promise<Drawing[]> {
  const pipeline = await FluxPipeline.load({ modelDir, cacheDir, precision, device: "cpu" });
  const drawings: Drawing[] = [];
  for (const prompt of prompts) drawings.push(await draw(pipeline, prompt));
  await pipeline.dispose();
  return drawings;
}

/** The picture of seed 0. */
async function draw(pipeline: FluxPipeline, prompt: string, stepCache = 0): Promise<Drawing> {
  const start = performance.now();
  const { images } = await pipeline.generate({ prompt, seed: 0, numImages: 1, width: 256, height: 256, stepCache });
  return { pixels: images[0]!.pixels, seconds: (performance.now() - start) / 1000 };
}

function distances(pictures: readonly Drawing[], exact: readonly Drawing[]): number[] {
  return pictures.map(({ pixels }, i) => psnr(pixels, exact[i]!.pixels));
}
