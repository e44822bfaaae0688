/** Which device a model runs on: the one asked for, or the best that works. */
import { EaselError } from "../errors.ts";
import { type DeviceName, deviceNeeds, deviceTitles, missingParts, type ResolvedDevice } from "./devices.ts";
import { type Trial, tryDevice } from "./device-trial.ts";
import { type Gpu, listGpus, mayHaveGpu } from "./gpus.ts";

export interface DeviceChoice {
  device: ResolvedDevice;
  /** Why this one, for a person: the end of a sentence. Undefined when it was asked for. */
  reason: string | undefined;
  /** For `SessionOptions`: this device cannot be trusted with attention. */
  attentionOnCpu: boolean;
  /** Whether it has half-precision products. */
  halfPrecision: boolean;
}

/** What decides where a model runs well. */
export interface Workload {
  /** Whether it is done on the CPU before a GPU would be ready. */
  small: boolean;
  /** The name of weights that are made for the CPU alone; undefined for others. */
  cpuFormat: string | undefined;
  /** Whether its products are in half precision. */
  needsHalfPrecision: boolean;
  /** What the largest network takes in a GPU's memory. */
  gpuBytes: number;
}

/** How a choice learns about this machine. */
export interface Machine {
  missingParts(device: ResolvedDevice): Promise<string | undefined>;
  mayHaveGpu(): Promise<boolean>;
  listGpus(): Promise<Gpu[]>;
  tryDevice(device: ResolvedDevice): Promise<Trial>;
}

/** A device that worked once is not tried again by the same process. */
const tried = new Map<ResolvedDevice, Trial>();

export const thisMachine: Machine = {
  missingParts,
  mayHaveGpu,
  listGpus,
  async tryDevice(device) {
    const trial = tried.get(device) ?? (await tryDevice(device));
    if (trial.works) tried.set(device, trial);
    return trial;
  },
};

/** What "auto" considers besides the CPU. Core ML and DirectML were never compared with the reference. */
const candidates = ["cuda", "webgpu"] as const;

/** Int8, which GPUs lack, makes the CPU nearly this much faster than it is in the trial. */
const worthwhile = 3;

/** A GPU that does not tell its memory is trusted with this much. Bytes. */
const assumedGpuBytes = 4e9;

/**
 * The device for `workload`. A device that is asked for by name is tried first, so that what it lacks is told in one sentence;
 * "auto" takes the fastest in a trial, and the CPU where nothing beats it clearly, such as a software device.
 *
 * @throws EaselError `device_unavailable` when the device that was asked for cannot be used.
 */
export async function chooseDevice(
  wish: DeviceName,
  workload: Workload,
  machine: Machine = thisMachine,
): Promise<DeviceChoice> {
  if (wish === "auto") return await chooseBest(workload, machine);
  if (wish === "cpu") return onCpu(undefined);
  if (workload.cpuFormat !== undefined) {
    const problem = `cannot be used for ${workload.cpuFormat}, whose products the CPU alone has; choose another precision`;
    throw unavailable(wish, problem);
  }
  const missing = await machine.missingParts(wish);
  if (missing !== undefined) throw unavailable(wish, `cannot be used: ${missing}`);
  const trial = await machine.tryDevice(wish);
  if (!trial.works) throw unavailable(wish, `cannot be used: ${[trial.reason, ...needs(wish)].join("; ")}`);
  if (workload.needsHalfPrecision && !trial.halfPrecision) {
    throw unavailable(wish, `cannot be used for fp16: ${lacksHalf(wish)}; choose another precision`);
  }
  return { device: wish, reason: undefined, attentionOnCpu: !trial.attends, halfPrecision: trial.halfPrecision };
}

/** How much memory a model may take on a GPU here. Bytes. */
export async function trustedGpuBytes(machine: Machine): Promise<number> {
  return Math.max(assumedGpuBytes, ...(await machine.listGpus()).map(({ memoryBytes = 0 }) => memoryBytes));
}

async function chooseBest(workload: Workload, machine: Machine): Promise<DeviceChoice> {
  const { small, cpuFormat, needsHalfPrecision, gpuBytes } = workload;
  if (cpuFormat !== undefined) return onCpu(`${cpuFormat} is a format for the CPU`);
  if (small) return onCpu("the model is small");
  if (!(await machine.mayHaveGpu())) return onCpu("there is no GPU");

  if ((await trustedGpuBytes(machine)) < gpuBytes) {
    const gpus = await machine.listGpus();
    const isKnown = gpus.length > 0 && gpus.every(({ memoryBytes }) => memoryBytes !== undefined);
    return onCpu(isKnown ? "the GPU has too little memory for the model" : "the GPU's memory is not known");
  }
  const problems: string[] = [];
  const working: { device: ResolvedDevice; trial: Extract<Trial, { works: true }> }[] = [];
  for (const device of candidates) {
    if ((await machine.missingParts(device)) !== undefined) continue;
    const trial = await machine.tryDevice(device);
    if (!trial.works) problems.push(`${deviceTitles[device]} does not work here (${trial.reason})`);
    else if (needsHalfPrecision && !trial.halfPrecision) problems.push(`${deviceTitles[device]}: ${lacksHalf(device)}`);
    else working.push({ device, trial });
  }
  const [best] = working.sort((a, b) => b.trial.operationsPerSecond - a.trial.operationsPerSecond);
  if (best === undefined) return onCpu(problems.join(" and ") || "ONNX Runtime has no parts for a GPU here");

  const cpu = await machine.tryDevice("cpu");
  const ratio = cpu.works ? best.trial.operationsPerSecond / cpu.operationsPerSecond : Infinity;
  if (ratio >= worthwhile) {
    const reason = `it was ${ratio.toFixed(1)} times as fast as the CPU in a trial`;
    const { attends, halfPrecision } = best.trial;
    return { device: best.device, reason, attentionOnCpu: !attends, halfPrecision };
  }
  const comparison = ratio < 1 ? "slower" : "hardly faster";
  const software = ratio < 0.1 ? ", as a device without a GPU behind it is" : "";
  return onCpu(`${deviceTitles[best.device]} was ${comparison} in a trial${software}`);
}

function onCpu(reason: string | undefined): DeviceChoice {
  return { device: "cpu", reason, attentionOnCpu: false, halfPrecision: false };
}

function lacksHalf(device: ResolvedDevice): string {
  return device === "webgpu"
    ? "half precision (shader-f16) does not work on this GPU with its driver"
    : "half precision does not work there";
}

function needs(device: ResolvedDevice): string[] {
  const what = deviceNeeds[device];
  return what === undefined ? [] : [what];
}

function unavailable(device: ResolvedDevice, problem: string): EaselError {
  return new EaselError("device_unavailable", `The device "${device}" ${problem}, or choose the device cpu.`, {
    param: "device",
  });
}
