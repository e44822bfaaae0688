/** What would run well: where a model would run here, in which precision, and which precisions have the memory that they need. */
import type { ResolvedDevice } from "../onnx/devices.ts";
import type { Memory } from "../onnx/memory.ts";
import { planMemory, type WeightCounts } from "./memory-plan.ts";
import { cpuPrecisions, type Precision } from "./precision.ts";
import { RunPlan, type RunWish, type Surroundings } from "./run-plan.ts";

export interface ModelOutlook {
  /** Those that the CPU gains from, and what they need there. */
  precisions: readonly PrecisionOutlook[];
  device: ResolvedDevice;
  /** Why this device; undefined when it was asked for. */
  reason: string | undefined;
  precision: Precision;
  /** Memory that must be available for that, if it runs on the CPU. Bytes. */
  neededBytes: number;
  /** Whether it can run so: now, when other programs have ended, or not at all. */
  fits: "now" | "alone" | "never";
}

export interface PrecisionOutlook {
  precision: Precision;
  /** Memory that must be available. Bytes. */
  neededBytes: number;
  fits: boolean;
}

/** @throws EaselError `device_unavailable` when the device that is wished for cannot be used, or not in the precision. */
export async function foresee(counts: WeightCounts, wish: RunWish, surroundings: Surroundings): Promise<ModelOutlook> {
  const { memory } = surroundings;
  const plan = await RunPlan.forWeights(counts, wish, surroundings);
  const precisions = cpuPrecisions.map((precision) => {
    const { neededBytes } = planMemory(counts, precision);
    return { precision, neededBytes, fits: neededBytes <= memory.availableBytes };
  });
  const { neededBytes } = planMemory(counts, plan.precision);
  const { device, choice, precision } = plan;
  // A GPU was only chosen because the model fits there.
  const fits = device === "cpu" ? fit(neededBytes, memory) : "now";
  return { precisions, device, reason: choice.reason, precision, neededBytes, fits };
}

function fit(neededBytes: number, { availableBytes, totalBytes }: Memory): ModelOutlook["fits"] {
  if (neededBytes <= availableBytes) return "now";
  return neededBytes <= totalBytes ? "alone" : "never";
}
