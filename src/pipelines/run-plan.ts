/** Where a model runs and in which precision: by what was asked for, its size, and this machine. */
import { type DeviceChoice, chooseDevice, type Machine, thisMachine } from "../onnx/device-choice.ts";
import { type DeviceName, deviceTitles, type ResolvedDevice } from "../onnx/devices.ts";
import { type Memory, readMemory } from "../onnx/memory.ts";
import type { SessionOptions } from "../onnx/session.ts";
import { choosePrecision, countWeights, largestNetworkBytes, type WeightCounts } from "./memory-plan.ts";
import { isConverted } from "./model-conversion.ts";
import { type AvailablePrecision, availablePrecision, type Precision } from "./precision.ts";

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
  isConverted?: ((precision: AvailablePrecision) => boolean) | undefined;
}

/** Networks of less than this draw a picture in about the time that it takes to look at a GPU. Bytes. */
const smallNetworkBytes = 1e9;

/** What GPUs can run, the most exact first. ONNX Runtime has the products of the others for the CPU alone. */
const gpuPrecisions: readonly AvailablePrecision[] = ["fp32", "int4"];

export class RunPlan {
  readonly precision: AvailablePrecision;
  readonly #choice: DeviceChoice;
  readonly #precisionWasChosen: boolean;
  readonly #cpuOperations = new Set<string>();

  private constructor(choice: DeviceChoice, precision: AvailablePrecision, precisionWasChosen: boolean) {
    this.#choice = choice;
    this.precision = precision;
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
    const asked = precision === "auto" ? undefined : availablePrecision(precision);
    const onGpu = asked ?? (device === "cpu" ? "fp32" : await gpuPrecision(counts, machine));
    const gpuBytes = largestNetworkBytes(counts, onGpu);
    const workload = {
      small: gpuBytes < smallNetworkBytes,
      cpuFormat: gpuPrecisions.includes(onGpu) ? undefined : onGpu,
      gpuBytes,
    };
    const choice = await chooseDevice(device, workload, machine);
    const onCpu = () => asked ?? choosePrecision(counts, memory, converted);
    return new RunPlan(choice, choice.device === "cpu" ? onCpu() : onGpu, asked === undefined);
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

  /** What the user must be told, as far as it has come to light. */
  notices(): string[] {
    const names = [...this.#cpuOperations].sort().join(", ");
    return [
      ...(this.#precisionWasChosen && this.precision !== "fp32"
        ? [
            `The model ran in ${this.precision}, since it is too large for fp32 here; --precision and EASEL_PRECISION choose.`,
          ]
        : []),
      ...(names === "" ? [] : [`${deviceTitles[this.device]} cannot do all of this model; the CPU did: ${names}.`]),
    ];
  }
}

/** The most exact precision that a GPU here has the memory for; fp32 where none has, or its memory is not known. */
async function gpuPrecision(counts: WeightCounts, machine: Machine): Promise<AvailablePrecision> {
  if (largestNetworkBytes(counts, "fp32") < smallNetworkBytes) return "fp32";
  const memory = Math.max(0, ...(await machine.listGpus()).map(({ memoryBytes = 0 }) => memoryBytes));
  return gpuPrecisions.find((precision) => largestNetworkBytes(counts, precision) <= memory) ?? "fp32";
}
