/** A look at everything that drawing depends on: the machine, what is installed, and what would run well. Changes nothing. */
import { constants, existsSync } from "node:fs";
import { access, stat } from "node:fs/promises";
import { createRequire } from "node:module";
import { dirname, join } from "node:path";
import { EaselError } from "../errors.ts";
import type { Machine } from "../onnx/device-choice.ts";
import { type DeviceReport, rememberingMachine, reportDevices } from "../onnx/device-report.ts";
import type { DeviceName } from "../onnx/devices.ts";
import type { Gpu } from "../onnx/gpus.ts";
import { machineMemory, type Memory, readMemory } from "../onnx/memory.ts";
import { type Processor, readProcessor } from "../onnx/processor.ts";
import { countWeights, type WeightCounts } from "../pipelines/memory-plan.ts";
import { isConverted } from "../pipelines/model-conversion.ts";
import { foresee, type ModelOutlook } from "../pipelines/model-outlook.ts";
import { type Precision, precisions, type PrecisionWish } from "../pipelines/precision.ts";
import { version } from "../version.ts";
import { type DiskSpace, readDiskSpace } from "../weights/hub/disk-space.ts";
import { checkModelFolder, folderBytes } from "../weights/model-folder.ts";
import { knownModels } from "./known-models.ts";
import { builtInModel, type CatalogModel, type MissingModel, ModelCatalog } from "./model-catalog.ts";
import { ModelStore } from "./model-store.ts";
import { UpscalerCatalog } from "./upscaler-catalog.ts";

export interface CheckupOptions {
  home: string;
  hubCache: string;
  /** The configured model, device and precision. */
  model: string;
  device: DeviceName;
  precision: PrecisionWish;
  /** What drawing may take in all; default: what the system lets it. Bytes. */
  memoryLimitBytes?: number | undefined;
  /** Where the system's files are looked for. Default "/". */
  root?: string | undefined;
  /** Default: this one, with trials of 20 seconds at most. */
  machine?: Machine | undefined;
}

export interface Checkup {
  versions: { easel: string; node: string; onnxRuntime: string };
  processor: Processor;
  /** What this process may have, and what the machine has besides. */
  memory: Memory & { machineBytes: number };
  disk: DiskSpace & { home: string; modelsBytes: number; cacheBytes: number };
  gpus: readonly Gpu[];
  devices: readonly DeviceReport[];
  models: readonly ModelReport[];
  upscalers: readonly UpscalerReport[];
  /** What is broken and needed, each in a sentence with what to do. */
  problems: readonly string[];
}

export interface ModelReport {
  name: string;
  state: CatalogModel["origin"] | "unusable" | "partial" | "not installed";
  /** What a download would still take. Bytes. */
  missingBytes: number;
  /** Undefined when its files cannot tell. */
  outlook: ModelOutlook | undefined;
  /** What it was converted to, in this machine's form. */
  converted: readonly Precision[];
}

export interface UpscalerReport {
  name: string;
  usable: boolean;
}

/** A driver that hangs costs no more than this. */
const trialTimeoutMs = 20_000;

/** A disk with less room counts as full. Bytes. */
const leastDiskBytes = 64 * 1024 * 1024;

export async function examine(options: CheckupOptions): Promise<Checkup> {
  const { home, root, memoryLimitBytes, machine = rememberingMachine(trialTimeoutMs) } = options;
  const problems: string[] = [];
  const memory = readMemory({ root, limitBytes: memoryLimitBytes });
  const devices = await reportDevices(machine);
  const [cpu] = devices;
  if (cpu?.problem !== undefined) {
    problems.push(`ONNX Runtime does not work on the CPU: ${cpu.problem}; install Easel's packages again with: npm ci`);
  }
  const disk = await examineDisk(home, problems);
  return {
    versions: { easel: version, node: process.versions.node, onnxRuntime: onnxRuntimeVersion() },
    processor: readProcessor({ root }),
    memory: { ...memory, machineBytes: machineMemory(root).totalBytes },
    disk,
    gpus: await machine.listGpus(),
    devices,
    models: await examineModels({ ...options, machine }, memory, problems),
    upscalers: await examineUpscalers(home, problems),
    problems: [...new Set(problems)], // a device that cannot be used is one problem, not one of each model
  };
}

async function examineDisk(home: string, problems: string[]): Promise<Checkup["disk"]> {
  const [modelsBytes, cacheBytes] = await Promise.all(["models", "cache"].map((name) => folderBytes(join(home, name))));
  const problem = await homeProblem(home);
  const space = await readDiskSpace(home).catch(() => ({ freeBytes: 0, totalBytes: 0 }));
  if (problem !== undefined) {
    problems.push(`EASEL_HOME, ${home}, cannot be used: ${problem}; set EASEL_HOME to a folder that can be written.`);
  } else if (space.freeBytes < leastDiskBytes) {
    problems.push(`The disk of EASEL_HOME, ${home}, is full; free some space, or set EASEL_HOME to another folder.`);
  }
  return { ...space, home, modelsBytes: modelsBytes!, cacheBytes: cacheBytes! };
}

/** Why nothing could be written there, or into the folder in which it would be made. */
async function homeProblem(home: string): Promise<string | undefined> {
  try {
    if (!(await stat(home)).isDirectory()) return "it is not a folder";
    await access(home, constants.W_OK | constants.X_OK);
    return undefined;
  } catch (error) {
    const code = error instanceof Error && "code" in error ? error.code : undefined;
    if (code === "ENOENT" && dirname(home) !== home) return await homeProblem(dirname(home));
    if (code === "ENOTDIR") return "it is not a folder";
    return code === "EROFS" ? "its disk is read-only" : "permission is missing";
  }
}

async function examineModels(
  { home, hubCache, model: defaultModel, ...options }: CheckupOptions & { machine: Machine },
  memory: Memory,
  problems: string[],
): Promise<ModelReport[]> {
  const catalog = new ModelCatalog({ home, hubCache });
  const [usable, missing, stored] = await Promise.all([catalog.list(), catalog.missing(), new ModelStore(home).list()]);
  const { device, precision, machine } = options;
  const cacheDir = join(home, "cache");
  const outlook = async (counts: WeightCounts, converted: readonly Precision[]) => {
    const wish = { device, precision };
    const surroundings = { machine, memory, isConverted: (one: Precision) => converted.includes(one) };
    return await foresee(counts, wish, surroundings).catch((error: unknown) => void tellIn(problems)(error));
  };
  const reports: ModelReport[] = [];
  for (const { name, folder, origin } of usable) {
    try {
      await checkModelFolder(folder);
      const counts = countWeights(folder);
      const converted = precisions.filter((one) => isConverted({ modelDir: folder, precision: one, cacheDir }));
      reports.push({ name, state: origin, missingBytes: 0, outlook: await outlook(counts, converted), converted });
    } catch (error) {
      tellIn(problems, `${name} cannot be used: `)(error);
      reports.push({ name, state: "unusable", missingBytes: 0, outlook: undefined, converted: [] });
    }
  }
  for (const { name } of stored.filter((one) => !usable.some((model) => model.name === one.name))) {
    await catalog.resolve(name).catch(tellIn(problems));
    reports.push({ name, state: "unusable", missingBytes: 0, outlook: undefined, converted: [] });
  }
  for (const model of missing) {
    const known = knownModels.find(({ name }) => name === model.name);
    const foreseen = known && (await outlook({ transformer: known.transformer }, []));
    reports.push({ ...describeMissing(model), outlook: foreseen, converted: [] });
  }
  if (!usable.some(({ name }) => name === builtInModel)) {
    problems.push(`The built-in model ${builtInModel} is missing; install Easel again.`);
  }
  // It may be the path of a folder or a file, too.
  if (!existsSync(defaultModel)) {
    await catalog.resolve(defaultModel).catch(tellIn(problems, "EASEL_MODEL cannot be used: "));
  }
  return reports;
}

function describeMissing({ name, progress, downloadBytes }: MissingModel) {
  const missingBytes = Math.round(downloadBytes * (1 - (progress ?? 0)));
  return { name, state: progress === undefined ? ("not installed" as const) : ("partial" as const), missingBytes };
}

async function examineUpscalers(home: string, problems: string[]): Promise<UpscalerReport[]> {
  const catalog = new UpscalerCatalog({ home });
  const reports: UpscalerReport[] = [];
  for (const name of await catalog.names()) {
    const usable = await catalog.resolve(name, 2).then(
      () => true,
      (error: unknown) => {
        tellIn(problems, `The upscaler ${name} cannot be used: `)(error);
        return false;
      },
    );
    reports.push({ name, usable });
  }
  return reports;
}

/** Adds what was thrown on purpose to the problems; any other error is thrown again. */
function tellIn(problems: string[], beginning = ""): (error: unknown) => void {
  return (error) => {
    if (!(error instanceof EaselError)) throw error;
    problems.push(beginning + error.message);
  };
}

function onnxRuntimeVersion(): string {
  const manifest = createRequire(import.meta.url)("onnxruntime-node/package.json") as { version: string };
  return manifest.version;
}
