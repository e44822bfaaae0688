import { describe, expect, test } from "vitest";
import { chooseDevice, type Machine, type Workload } from "./device-choice.ts";
import type { Trial } from "./device-trial.ts";
import type { ResolvedDevice } from "./devices.ts";

const large: Workload = { small: false, cpuFormat: undefined, needsHalfPrecision: false, gpuBytes: 24e9 };
const works = (gigaOperations: number, { attends = true, halfPrecision = true } = {}): Trial => {
  return { works: true, operationsPerSecond: gigaOperations * 1e9, attends, halfPrecision };
};
const broken = (reason: string): Trial => ({ works: false, reason });

/** A machine with what `devices` does in trials; what is not among them is not installed. */
function machine(
  devices: Partial<Record<ResolvedDevice, Trial>>,
  facts: { mayHaveGpu?: boolean; memoryBytes?: number | undefined } = {},
): Machine & { tried: ResolvedDevice[] } {
  const { mayHaveGpu, memoryBytes } = { mayHaveGpu: true, memoryBytes: 80e9, ...facts };
  const tried: ResolvedDevice[] = [];
  return {
    tried,
    missingParts: (device) => Promise.resolve(devices[device] ? undefined : `there is no ${device}`),
    mayHaveGpu: () => Promise.resolve(mayHaveGpu),
    listGpus: () => Promise.resolve([{ name: "a GPU", memoryBytes }]),
    tryDevice: (device) => {
      tried.push(device);
      return Promise.resolve(devices[device]!);
    },
  };
}

describe("auto", () => {
  test("takes the device that was fastest in a trial, and says by how much", async () => {
    const here = machine({ cpu: works(200), webgpu: works(2000), cuda: works(9000) });
    const choice = await chooseDevice("auto", large, here);
    expect(choice).toEqual({
      device: "cuda",
      reason: "it was 45.0 times as fast as the CPU in a trial",
      attentionOnCpu: false,
      halfPrecision: true,
    });
  });

  test("passes over devices that do not work, and one that gets attention wrong is not trusted with it", async () => {
    const here = machine({ cpu: works(200), webgpu: works(2000, { attends: false }), cuda: broken("no driver") });
    expect(await chooseDevice("auto", large, here)).toMatchObject({ device: "webgpu", attentionOnCpu: true });
  });

  test.each([
    [
      "a device in software",
      { webgpu: works(0.1) },
      "WebGPU was slower in a trial, as a device without a GPU behind it is",
    ],
    ["a slower GPU", { webgpu: works(150) }, "WebGPU was slower in a trial"],
    ["a GPU that is hardly faster", { webgpu: works(500) }, "WebGPU was hardly faster in a trial"],
    ["a broken driver", { webgpu: broken("no adapter") }, "WebGPU does not work here (no adapter)"],
    ["a runtime without parts for GPUs", {}, "ONNX Runtime has no parts for a GPU here"],
  ])("keeps to the CPU beside %s", async (_, devices: Partial<Record<ResolvedDevice, Trial>>, reason) => {
    const choice = await chooseDevice("auto", large, machine({ cpu: works(200), ...devices }));
    expect(choice).toEqual({ device: "cpu", reason, attentionOnCpu: false, halfPrecision: false });
  });

  test("passes over devices without half precision for fp16, however fast they are", async () => {
    const halves = { ...large, needsHalfPrecision: true };
    const without = works(9000, { halfPrecision: false });
    const both = machine({ cpu: works(200), webgpu: without, cuda: works(2000) });
    expect(await chooseDevice("auto", halves, both)).toMatchObject({ device: "cuda", halfPrecision: true });
    const none = machine({ cpu: works(200), webgpu: without });
    const reason = "WebGPU: half precision (shader-f16) does not work on this GPU with its driver";
    expect(await chooseDevice("auto", halves, none)).toMatchObject({ device: "cpu", reason });
  });

  test.each([
    ["without a GPU", large, { mayHaveGpu: false }, "there is no GPU"],
    ["for a small model", { ...large, small: true }, {}, "the model is small"],
    ["for int8", { ...large, cpuFormat: "int8" }, {}, "int8 is a format for the CPU"],
    ["when the GPU's memory is too small", large, { memoryBytes: 8e9 }, "the GPU has too little memory for the model"],
    ["when the GPU's memory is not known", large, { memoryBytes: undefined }, "the GPU's memory is not known"],
  ])("keeps to the CPU %s, and tries nothing", async (_, workload, facts, reason) => {
    const here = machine({ cpu: works(200), webgpu: works(2000) }, facts);
    expect(await chooseDevice("auto", workload, here)).toMatchObject({ device: "cpu", reason });
    expect(here.tried).toEqual([]);
  });
});

describe("a device that is asked for by name", () => {
  test("is taken when it works, however slow it is", async () => {
    const here = machine({ cpu: works(200), webgpu: works(0.1) });
    const choice = { device: "webgpu", reason: undefined, attentionOnCpu: false, halfPrecision: true };
    expect(await chooseDevice("webgpu", { ...large, small: true }, here)).toEqual(choice);
    expect(here.tried).toEqual(["webgpu"]);
  });

  test.each([
    ["lacks parts", "dml", large, 'The device "dml" cannot be used: there is no dml, or choose the device cpu.'],
    [
      "does not work",
      "cuda",
      large,
      'The device "cuda" cannot be used: no driver; it needs an NVIDIA GPU with its driver, the libraries of CUDA 12, and cuDNN 9, or choose the device cpu.',
    ],
    [
      "cannot multiply the weights",
      "webgpu",
      { ...large, cpuFormat: "int8" },
      'The device "webgpu" cannot be used for int8, whose products the CPU alone has; choose another precision, or choose the device cpu.',
    ],
    [
      "has no half precision",
      "coreml",
      { ...large, needsHalfPrecision: true },
      'The device "coreml" cannot be used for fp16: half precision does not work there; choose another precision, or choose the device cpu.',
    ],
  ] as const)("is refused when it %s", async (_, device, workload, message) => {
    const coreml = works(2000, { halfPrecision: false });
    const here = machine({ cpu: works(200), webgpu: works(2000), cuda: broken("no driver"), coreml });
    await expect(chooseDevice(device, workload, here)).rejects.toMatchObject({
      code: "device_unavailable",
      param: "device",
      message,
    });
  });
});
