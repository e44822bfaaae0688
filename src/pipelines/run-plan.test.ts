import { describe, expect, test } from "vitest";
import type { Machine } from "../onnx/device-choice.ts";
import type { ResolvedDevice } from "../onnx/devices.ts";
import type { WeightCounts } from "./memory-plan.ts";
import type { Precision } from "./precision.ts";
import { RunPlan, type RunWish } from "./run-plan.ts";

/** FLUX.1's transformer, about. */
const flux: WeightCounts = {
  transformer: { linearValues: 11.8e9, linearOutputs: 1.3e6, floatValues: 0.06e9, halfValues: 11.9e9 },
};
const small: WeightCounts = {
  transformer: { linearValues: 5e6, linearOutputs: 1e4, floatValues: 1e5, halfValues: 5e6 },
};
const memory = { availableBytes: 20e9, totalBytes: 24e9 };

/** A machine with one GPU, a hundred times as fast as the CPU. */
function machineWith(device: ResolvedDevice, halfPrecision: boolean, memoryBytes?: number): Machine {
  return {
    missingParts: (one) => Promise.resolve(one === device ? undefined : `there is no ${one}`),
    mayHaveGpu: () => Promise.resolve(true),
    listGpus: () => Promise.resolve([{ name: "a GPU", memoryBytes }]),
    tryDevice: (one) =>
      Promise.resolve({ works: true, attends: true, halfPrecision, operationsPerSecond: one === device ? 2e13 : 2e11 }),
  };
}

async function plan(wish: RunWish, machine: Machine, counts = flux) {
  const { device, precision } = await RunPlan.forWeights(counts, wish, { memory, machine });
  return { device, precision };
}

describe("a precision that nobody chose", () => {
  test("is fp16 on a GPU that has it, and the user is told", async () => {
    const made = await RunPlan.forWeights(flux, {}, { memory, machine: machineWith("cuda", true, 80e9) });
    expect([made.device, made.precision]).toEqual(["cuda", "fp16"]);
    expect(made.notices()).toEqual([
      "The model ran in fp16, which suits a GPU at its size; --precision and EASEL_PRECISION choose.",
    ]);
  });

  test.each([
    ["fp32 where the GPU has room but no half precision", machineWith("webgpu", false, 80e9), "fp32"],
    ["int4 where it has room for that alone, and to work", machineWith("webgpu", true, 25e9), "int4"],
    ["fp16 where its memory is not known", machineWith("webgpu", true), "fp16"],
    ["fp32 where neither is known", machineWith("webgpu", false), "fp32"],
  ])("is on a device that was asked for %s", async (_, machine, precision) => {
    expect(await plan({ device: "webgpu" }, machine)).toMatchObject({ device: "webgpu", precision });
  });

  test("is never fp16 on the CPU, nor for a small model", async () => {
    expect(await plan({ device: "cpu" }, machineWith("cuda", true, 80e9))).toMatchObject({ precision: "int8" });
    expect(await plan({}, machineWith("cuda", true, 10e9))).toMatchObject({ device: "cuda", precision: "int4" });
    expect(await plan({}, machineWith("cuda", true, 5e9))).toMatchObject({ device: "cpu", precision: "int8" });
    expect(await plan({ device: "cuda" }, machineWith("cuda", true, 80e9), small)).toMatchObject({ precision: "fp32" });
  });
});

describe("fp16 that was asked for", () => {
  test("runs on the CPU where no GPU has it, which is told twice: why there, and what that means", async () => {
    const machine = machineWith("webgpu", false, 80e9);
    const made = await RunPlan.forWeights(flux, { precision: "fp16" }, { memory, machine });
    expect([made.device, made.precision]).toEqual(["cpu", "fp16"]);
    expect(made.choice.reason).toBe("WebGPU: half precision (shader-f16) does not work on this GPU with its driver");
    expect(made.notices()).toEqual([
      "fp16 is for GPUs; the CPU gains neither time nor memory by it. int8 saves both there.",
    ]);
  });

  test("is refused on a device without it", async () => {
    const wish = { device: "webgpu", precision: "fp16" } as const;
    await expect(plan(wish, machineWith("webgpu", false, 80e9))).rejects.toMatchObject({ code: "device_unavailable" });
    expect(await plan(wish, machineWith("webgpu", true))).toMatchObject({ device: "webgpu", precision: "fp16" });
  });
});

test("a precision that there is not is refused", async () => {
  await expect(plan({ precision: "fp8" as Precision }, machineWith("cuda", true))).rejects.toMatchObject({
    code: "invalid_request",
    param: "precision",
    message: 'There is no precision "fp8"; use fp32, fp16, int8, int4.',
  });
});
