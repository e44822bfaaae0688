/**
 * The benchmarks, each measuring on this machine what anyone can measure on theirs:
 *
 *     npm run bench                                the built-in model, as a user meets it
 *     npm run bench -- sketch --python PYTHON      … beside diffusers, drawing the same pictures in turn
 *     npm run bench -- upscale [--model FILE|random-rrdb]   the upscaler, and another one beside it
 *     npm run bench -- api-load [--seconds 60]     200 clients at once; fails when the model list keeps them waiting
 *     npm run bench -- api-overhead                everything but inference
 *     npm run bench -- batching [--size 256x256]   pictures one at a time and several at once
 *     npm run bench -- flux-step --size 512x512 --precision int8 [--double-blocks 19] [--single-blocks 38] [--device cuda]
 *     npm run bench -- flux-peers --size 512x512 --double-blocks 2 --single-blocks 4 [--python PYTHON] [--sd-cli PROGRAM]
 *                                                  … beside diffusers and stable-diffusion.cpp, in turn
 *     npm run bench -- stand-in --model FOLDER     writes a model with FLUX.1-dev's shapes and random values, 34 GB
 *     npm run bench -- flux --model FOLDER [--precision fp16 --device cuda]   … and draws with it, or with a real one
 *     npm run bench -- precision [--model FOLDER]  what int8, int4 and fp16's weights cost in accuracy, by picture and by layer
 *     npm run bench -- step-cache [--model FOLDER] what sparing steps saves, and costs
 *
 * Medians, with the range. `--json` prints one line for programs.
 */
import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { availableParallelism, tmpdir } from "node:os";
import { parseArgs } from "node:util";
import { join } from "node:path";
import { type ResolvedDevice, deviceNames } from "../src/onnx/devices.ts";
import { precisions } from "../src/pipelines/precision.ts";
import { benchPrecision, benchStepCache } from "./accuracy.ts";
import { benchFlux } from "./flux.ts";
import { benchBatching } from "./batching.ts";
import { benchApiLoad } from "./api-load.ts";
import { benchApiOverhead } from "./api-overhead.ts";
import { benchFluxPeers } from "./flux-peers.ts";
import { benchFluxStep } from "./flux-step.ts";
import type { Figure } from "./measure.ts";
import { torchKinds } from "./peers/diffusers.ts";
import { ggufTypes } from "./peers/random-gguf.ts";
import { findSdCli } from "./peers/sd-cpp.ts";
import { randomPrecisions } from "./random-flux.ts";
import { benchSketch } from "./sketch.ts";
import { writeStandIn } from "./stand-in.ts";
import { benchUpscale } from "./upscale.ts";

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: {
    json: { type: "boolean", default: false },
    rounds: { type: "string" },
    python: { type: "string" },
    torch: { type: "string", multiple: true, default: [...torchKinds] },
    "sd-cli": { type: "string", multiple: true },
    gguf: { type: "string", multiple: true, default: ["q8_0"] },
    size: { type: "string", default: "256x256" },
    precision: { type: "string", default: "int8" },
    device: { type: "string", default: "cpu" },
    "double-blocks": { type: "string", default: "19" },
    "single-blocks": { type: "string", default: "38" },
    "text-tokens": { type: "string", default: "256" },
    threads: { type: "string" },
    model: { type: "string" },
    cache: { type: "string" },
    steps: { type: "string", default: "4" },
    "memory-limit": { type: "string" },
    seconds: { type: "string", default: "60" },
  },
});

const [name = "sketch"] = positionals;
switch (name) {
  case "sketch":
    show(await benchSketch({ rounds: rounds(7), python: values.python }));
    break;
  case "upscale":
    requireAll(await benchUpscale({ rounds: rounds(7), model: values.model, threads: threadCount() }));
    break;
  case "api-load":
    requireAll(await benchApiLoad({ seconds: Number(values.seconds) }));
    break;
  case "api-overhead":
    show(await benchApiOverhead({ rounds: rounds(40) }));
    break;
  case "batching":
    show(await benchBatching({ ...stepOptions(), rounds: rounds(60) }));
    break;
  case "flux-step":
    console.log(JSON.stringify(await fluxStep()));
    break;
  case "flux-peers":
    show(await fluxPeers());
    break;
  case "flux":
    show(await flux());
    break;
  case "precision":
    show(await withScratch((cacheDir) => benchPrecision({ ...pictures(), cacheDir })));
    break;
  case "step-cache":
    show(await withScratch((cacheDir) => benchStepCache({ ...pictures(), cacheDir }, [0.05, 0.1, 0.2, 0.3])));
    break;
  case "stand-in":
    console.log(`${await writeStandIn({ folder: modelFolder(), ...depth() })} bytes`);
    break;
  default:
    console.error(
      `bench: there is no benchmark "${name}"; there are sketch, upscale, api-load, api-overhead, batching, flux-step, flux-peers, flux, precision, step-cache and stand-in.`,
    );
    process.exitCode = 2;
}

async function fluxStep() {
  const devices = deviceNames.filter((one): one is ResolvedDevice => one !== "auto");
  return await benchFluxStep({
    ...stepOptions(),
    ...depth(),
    precision: known("--precision", values.precision, randomPrecisions),
    device: known("--device", values.device, devices),
    steps: rounds(7),
  });
}

async function fluxPeers(): Promise<Figure[]> {
  const sdClis = values["sd-cli"] ?? [findSdCli()].filter((found) => found !== undefined);
  if (values.python === undefined && sdClis.length === 0)
    throw new Error("no peer: give a Python with torch and diffusers (--python) or stable-diffusion.cpp (--sd-cli)");
  const { threads = availableParallelism(), ...size } = stepOptions();
  return await benchFluxPeers({
    ...size,
    ...depth(),
    threads,
    rounds: rounds(3),
    python: values.python,
    torchKinds: values.torch.map((kind) => known("--torch", kind, torchKinds)),
    sdClis,
    ggufTypes: values.gguf.map((type) => known("--gguf", type, Object.keys(ggufTypes) as (keyof typeof ggufTypes)[])),
  });
}

function known<T extends string>(option: string, value: string, all: readonly T[]): T {
  const found = all.find((candidate) => candidate === value);
  if (found === undefined) throw new Error(`${option} must be one of ${all.join(", ")}`);
  return found;
}

async function flux(): Promise<Figure[]> {
  const precision = known("--precision", values.precision, precisions);
  const modelDir = modelFolder();
  const cacheDir = values.cache ?? join(modelDir, "converted");
  const memoryLimitBytes = values["memory-limit"] === undefined ? undefined : Number(values["memory-limit"]) * 1e9;
  return await benchFlux({
    ...stepOptions(),
    modelDir,
    cacheDir,
    precision,
    device: known("--device", values.device, deviceNames),
    steps: Number(values.steps),
    memoryLimitBytes,
  });
}

/** The prompts of the built-in model's sample pictures. */
function pictures() {
  const root = join(import.meta.dirname, "..");
  const prompts = readFileSync(join(root, "training/sample-prompts.txt"), "utf8").trim().split("\n");
  return { modelDir: values.model ?? join(root, "models/easel-sketch"), prompts };
}

async function withScratch<T>(work: (folder: string) => Promise<T>): Promise<T> {
  const folder = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    return await work(folder);
  } finally {
    rmSync(folder, { recursive: true });
  }
}

function stepOptions() {
  const [width, height] = values.size.split("x").map(Number);
  if (!width || !height || width % 16 !== 0 || height % 16 !== 0)
    throw new Error("--size must be multiples of 16, as 512x512");
  return { width, height, textTokens: Number(values["text-tokens"]), threads: threadCount() };
}

function threadCount(): number | undefined {
  return values.threads === undefined ? undefined : Number(values.threads);
}

function depth() {
  return { doubleBlocks: Number(values["double-blocks"]), singleBlocks: Number(values["single-blocks"]) };
}

function modelFolder(): string {
  if (values.model === undefined) throw new Error("--model FOLDER is missing");
  return values.model;
}

function rounds(usual: number): number {
  return Number(values.rounds ?? usual);
}

function show(figures: Figure[]): void {
  if (values.json) {
    console.log(JSON.stringify(figures));
    return;
  }
  for (const { what, median, min, max, unit, limit } of figures) {
    const bound = limit === undefined ? "" : `  (wanted: at most ${limit} ${unit})`;
    console.log(`${what.padEnd(58)} ${format(median)} ${unit}  [${format(min)} to ${format(max)}]${bound}`);
  }
}

/** Shows the figures; the program fails when one is above its limit. */
function requireAll(figures: Figure[]): void {
  show(figures);
  if (figures.some(({ median, limit = Infinity }) => median > limit)) process.exitCode = 1;
}

function format(value: number): string {
  return value.toFixed(value < 10 ? 2 : 0).padStart(6);
}
