/** Which devices could be used here, and what the others lack. */
import { type Machine, thisMachine } from "./device-choice.ts";
import { type Trial, tryDevice } from "./device-trial.ts";
import { deviceNeeds, type ResolvedDevice } from "./devices.ts";

export interface DeviceReport {
  device: ResolvedDevice;
  /** Undefined where it works. A part of a sentence: no capital, no full stop. */
  problem: string | undefined;
  /** In products of fp32 matrices, in the trial. */
  operationsPerSecond: number | undefined;
  /** Whether it has half-precision products. */
  halfPrecision: boolean | undefined;
  /** Whether ONNX Runtime's attention is right there; else the CPU does it. */
  attends: boolean | undefined;
}

/** Those that Easel considers by itself, and the one that the system has besides. */
function devicesHere(): ResolvedDevice[] {
  const own = { darwin: ["coreml"], win32: ["dml"] } as const;
  return ["cpu", "webgpu", "cuda", ...(own[process.platform as keyof typeof own] ?? [])];
}

/**
 * This machine, asked only once for everything, so that a driver that hangs is waited for once: `timeoutMs`. The CPU, which cannot
 * hang but be busy, is given the usual time.
 */
export function rememberingMachine(timeoutMs: number): Machine {
  const trials = new Map<ResolvedDevice, Promise<Trial>>();
  let gpus: ReturnType<Machine["listGpus"]> | undefined;
  return {
    ...thisMachine,
    listGpus: () => (gpus ??= thisMachine.listGpus()),
    tryDevice: (device) => {
      const trial = trials.get(device) ?? tryDevice(device, device === "cpu" ? {} : { timeoutMs });
      trials.set(device, trial);
      return trial;
    },
  };
}

/** Tries each device whose parts are here; GPUs only where there may be one. */
export async function reportDevices(machine: Machine): Promise<DeviceReport[]> {
  const reports: DeviceReport[] = [];
  const mayHaveGpu = await machine.mayHaveGpu();
  for (const device of devicesHere()) {
    const unusable = device !== "cpu" && !mayHaveGpu ? "there is no GPU" : await machine.missingParts(device);
    // One after the other: at the same time they would slow each other down.
    reports.push(unusable === undefined ? await tried(device, machine) : broken(device, unusable));
  }
  return reports;
}

async function tried(device: ResolvedDevice, machine: Machine): Promise<DeviceReport> {
  const trial = await machine.tryDevice(device);
  if (!trial.works) return broken(device, [trial.reason, deviceNeeds[device] ?? []].flat().join("; "));
  const { operationsPerSecond, halfPrecision, attends } = trial;
  return { device, problem: undefined, operationsPerSecond, halfPrecision, attends };
}

function broken(device: ResolvedDevice, problem: string): DeviceReport {
  return { device, problem, operationsPerSecond: undefined, halfPrecision: undefined, attends: undefined };
}
