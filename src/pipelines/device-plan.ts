/** The device of a model, by its size and its weights' format. */
import { type DeviceChoice, chooseDevice } from "../onnx/device-choice.ts";
import { type DeviceName, deviceTitles, type ResolvedDevice } from "../onnx/devices.ts";
import type { SessionOptions } from "../onnx/session.ts";
import { planMemory } from "./memory-plan.ts";
import type { Precision } from "./precision.ts";

/** Weights of less than this draw a picture in about the time that it takes to look at a GPU. Bytes. */
const smallModelBytes = 1e9;

/** Precisions whose products ONNX Runtime has for the CPU alone. */
const cpuPrecisions: ReadonlySet<Precision> = new Set(["int8"]);

/** The device of one model's networks. */
export class PlannedDevice implements DeviceChoice {
  readonly device: ResolvedDevice;
  readonly reason: string | undefined;
  readonly attentionOnCpu: boolean;
  readonly #cpuOperations = new Set<string>();

  private constructor({ device, reason, attentionOnCpu }: DeviceChoice) {
    this.device = device;
    this.reason = reason;
    this.attentionOnCpu = attentionOnCpu;
  }

  /**
   * Where the model in `modelDir` runs.
   *
   * @throws EaselError `device_unavailable` when the device asked for cannot be used, or not with this precision.
   * @throws ModelInvalidError, WeightsInvalidError when the model's files cannot be used.
   */
  static async of(modelDir: string, wish: DeviceName, precision: Precision): Promise<PlannedDevice> {
    const bytes = Object.values(planMemory(modelDir, precision).networks);
    const choice = await chooseDevice(wish, {
      small: bytes.reduce((a, b) => a + b) < smallModelBytes,
      cpuFormat: cpuPrecisions.has(precision) ? precision : undefined,
      gpuBytes: Math.max(...bytes),
    });
    return new PlannedDevice(choice);
  }

  /** For sessions that run there. */
  get sessionOptions(): Omit<SessionOptions, "threads"> {
    const onCpuOperations = (names: readonly string[]) => names.forEach((name) => this.#cpuOperations.add(name));
    return { device: this.device, attentionOnCpu: this.attentionOnCpu, onCpuOperations };
  }

  /** What the user must be told, as far as it has come to light. */
  notices(): string[] {
    const names = [...this.#cpuOperations].sort().join(", ");
    return names === "" ? [] : [`${deviceTitles[this.device]} cannot do all of this model; the CPU did: ${names}.`];
  }
}
