/** Where a model runs and in which precision: by what was asked for, its size, and this machine. */
import { type DeviceChoice, chooseDevice } from "../onnx/device-choice.ts";
import { type DeviceName, deviceTitles, type ResolvedDevice } from "../onnx/devices.ts";
import { listGpus } from "../onnx/gpus.ts";
import { readMemory } from "../onnx/memory.ts";
import type { SessionOptions } from "../onnx/session.ts";
import { choosePrecision, largestNetworkBytes } from "./memory-plan.ts";
import { type AvailablePrecision, availablePrecision, type Precision } from "./precision.ts";

export interface RunWish {
  /** Default "auto". */
  device?: DeviceName | undefined;
  /** Default "auto": what suits the device, the model's size and the memory. */
  precision?: Precision | "auto" | undefined;
  /** What the process may take in all; default: what the system lets it. Bytes. */
  memoryLimitBytes?: number | undefined;
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
   * The plan for the model in `modelDir`.
   *
   * @throws EaselError `invalid_request` for a precision that there is not, `device_unavailable` when the device asked for
   * cannot be used, or not with this precision.
   * @throws ModelInvalidError, WeightsInvalidError when the model's files cannot be used.
   */
  static async of(
    modelDir: string,
    { device = "auto", precision = "auto", memoryLimitBytes }: RunWish,
  ): Promise<RunPlan> {
    const asked = precision === "auto" ? undefined : availablePrecision(precision);
    const onGpu = asked ?? (device === "cpu" ? "fp32" : await gpuPrecision(modelDir));
    const gpuBytes = largestNetworkBytes(modelDir, onGpu);
    const choice = await chooseDevice(device, {
      small: gpuBytes < smallNetworkBytes,
      cpuFormat: gpuPrecisions.includes(onGpu) ? undefined : onGpu,
      gpuBytes,
    });
    const fitting =
      choice.device === "cpu"
        ? (asked ?? choosePrecision(modelDir, readMemory({ limitBytes: memoryLimitBytes })))
        : onGpu;
    return new RunPlan(choice, fitting, asked === undefined);
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
async function gpuPrecision(modelDir: string): Promise<AvailablePrecision> {
  if (largestNetworkBytes(modelDir, "fp32") < smallNetworkBytes) return "fp32";
  const memory = Math.max(0, ...(await listGpus()).map(({ memoryBytes = 0 }) => memoryBytes));
  return gpuPrecisions.find((precision) => largestNetworkBytes(modelDir, precision) <= memory) ?? "fp32";
}
