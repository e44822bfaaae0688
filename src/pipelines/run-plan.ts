/** Where a model runs and in which precision: by what was asked for, its size, and this machine. */
import { type DeviceChoice, chooseDevice, type Machine, thisMachine, trustedGpuBytes } from "../onnx/device-choice.ts";
import { type DeviceName, deviceTitles, type ResolvedDevice } from "../onnx/devices.ts";
import { type Memory, readMemory } from "../onnx/memory.ts";
import type { SessionOptions } from "../onnx/session.ts";
import {
  choosePrecision,
  countWeights,
  largestNetworkBytes,
  neededGpuBytes,
  type WeightCounts,
} from "./memory-plan.ts";
import { isConverted } from "./model-conversion.ts";
import { gpuPrecisions, knownPrecision, type Precision } from "./precision.ts";

export interface RunWish {
  /** Default "auto". */
  device?: DeviceName | undefined;
  /** Default "auto": what suits the device, the model's size and the memory. */
  precision?: Precision | "auto" | undefined;
}

/** A wish for a model that is here. */
export interface ModelRunWish extends RunWish {
  /** What the process may take in all; default: what the system lets it. Bytes. */
  memoryLimitBytes?: number | undefined;
  /** Where converted weights are kept. */
  cacheDir?: string | undefined;
}

/** What a plan goes by besides the wish. */
export interface Surroundings {
  memory: Memory;
  /** Default: this machine. */
  machine?: Machine | undefined;
  /** Whether the model was converted to a precision. Default: to none. */
  isConverted?: ((precision: Precision) => boolean) | undefined;
}

/** Networks of less than this draw a picture in about the time that it takes to look at a GPU. Bytes. */
const smallNetworkBytes = 1e9;

export class RunPlan {
  readonly precision: Precision;
  /** Of the GPU that it runs on; undefined on the CPU, and where the system does not tell. */
  readonly gpuMemoryBytes: number | undefined;
  readonly #choice: DeviceChoice;
  readonly #precisionWasChosen: boolean;
  readonly #cpuOperations = new Set<string>();

  private constructor(
    choice: DeviceChoice,
    precision: Precision,
    { precisionWasChosen, gpuMemoryBytes }: { precisionWasChosen: boolean; gpuMemoryBytes: number | undefined },
  ) {
    this.#choice = choice;
    this.precision = precision;
    this.gpuMemoryBytes = gpuMemoryBytes;
    this.#precisionWasChosen = precisionWasChosen;
  }

  /**
   * The plan for the model in `modelDir`; one that was converted to a precision before runs in it, where it suits.
   *
   * @throws EaselError `invalid_request` for a precision that there is not, `device_unavailable` when the device asked for
   * cannot be used, or not with this precision.
   * @throws ModelInvalidError, WeightsInvalidError when the model's files cannot be used.
   */
  static async of(modelDir: string, { memoryLimitBytes, cacheDir, ...wish }: ModelRunWish): Promise<RunPlan> {
    return await RunPlan.forWeights(countWeights(modelDir), wish, {
      memory: readMemory({ limitBytes: memoryLimitBytes }),
      isConverted: (precision) => isConverted({ modelDir, precision, cacheDir }),
    });
  }

  /** The plan for a model with so many weights. Throws as `of`, but for files. */
  static async forWeights(
    counts: WeightCounts,
    { device = "auto", precision = "auto" }: RunWish,
    { memory, machine = thisMachine, isConverted: converted }: Surroundings,
  ): Promise<RunPlan> {
    const asked = precision === "auto" ? undefined : knownPrecision(precision);
    const candidates = await suitGpus(counts, device === "cpu" ? "fp32" : asked, machine);
    const workload = {
      small: largestNetworkBytes(counts, asked ?? "fp32") < smallNetworkBytes,
      cpuFormat: asked === undefined || gpuPrecisions.includes(asked) ? undefined : asked,
      needsHalfPrecision: asked === "fp16",
      gpuBytes: neededGpuBytes(counts, candidates[0]),
    };
    const choice = await chooseDevice(device, workload, machine);
    const precisionWasChosen = asked === undefined;
    if (choice.device === "cpu") {
      const chosen = asked ?? choosePrecision(counts, memory, converted);
      return new RunPlan(choice, chosen, { precisionWasChosen, gpuMemoryBytes: undefined });
    }
    const chosen = candidates.find((candidate) => candidate !== "fp16" || choice.halfPrecision) ?? "fp32";
    const known = (await machine.listGpus()).flatMap(({ memoryBytes }) => memoryBytes ?? []);
    const gpuMemoryBytes = known.length === 0 ? undefined : Math.max(...known);
    return new RunPlan(choice, chosen, { precisionWasChosen, gpuMemoryBytes });
  }

  get device(): ResolvedDevice {
    return this.#choice.device;
  }

  /** Where it runs, and why there. */
  get choice(): DeviceChoice {
    return this.#choice;
  }

  /** For sessions that run there. */
  get sessionOptions(): Omit<SessionOptions, "threads"> {
    const { device, attentionOnCpu } = this.#choice;
    const onCpuOperations = (names: readonly string[]) => names.forEach((name) => this.#cpuOperations.add(name));
    return { device, attentionOnCpu, onCpuOperations };
  }

  #why(): string {
    return this.precision === "fp16" ? "which suits a GPU at its size" : "since it is too large for fp32 here";
  }

  /** What the user must be told, as far as it has come to light. */
  notices(): string[] {
    const names = [...this.#cpuOperations].sort().join(", ");
    return [
      ...(this.#precisionWasChosen && this.precision !== "fp32"
        ? [`The model ran in ${this.precision}, ${this.#why()}; --precision and EASEL_PRECISION choose.`]
        : []),
      ...(this.precision === "fp16" && this.device === "cpu"
        ? ["fp16 is for GPUs; the CPU gains neither time nor memory by it. int8 saves both there."]
        : []),
      ...(names === "" ? [] : [`${deviceTitles[this.device]} cannot do all of this model; the CPU did: ${names}.`]),
    ];
  }
}

/**
 * What suits a GPU here, best first: what was asked for, or else fp32 for a small model; for a large one fp16, which halves what must be read and kept, then
 * fp32 for GPUs without it, and int4 where neither has room. If nothing has, the first two all the same.
 */
async function suitGpus(
  counts: WeightCounts,
  asked: Precision | undefined,
  machine: Machine,
): Promise<[Precision, ...Precision[]]> {
  if (asked !== undefined) return [asked];
  if (largestNetworkBytes(counts, "fp32") < smallNetworkBytes) return ["fp32"];
  const memory = await trustedGpuBytes(machine);
  const fits = (precision: Precision) => neededGpuBytes(counts, precision) <= memory;
  const [first, ...others] = (["fp16", "fp32", "int4"] as const).filter(fits);
  return first === undefined ? ["fp16", "fp32"] : [first, ...others];
}
