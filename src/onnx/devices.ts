/** Where a graph can run, and the choice for this machine. */
import { readFileSync } from "node:fs";
import { arch } from "node:os";
import { EaselError } from "../errors.ts";

export const deviceNames = ["auto", "cpu", "webgpu", "cuda", "coreml", "dml"] as const;
export type DeviceName = (typeof deviceNames)[number];

/** A device by name; no longer a wish. */
export type ResolvedDevice = Exclude<DeviceName, "auto">;

/**
 * The device that `wish` means on this machine. "auto" is the CPU for now: it is the one device on which every picture has
 * been compared with the reference implementation.
 *
 * @throws EaselError `device_unavailable` when this installation of ONNX Runtime lacks the device.
 */
export async function resolveDevice(wish: DeviceName): Promise<ResolvedDevice> {
  if (wish === "auto") return "cpu";
  // Loaded here, not above: the command line reads this file's names and should not wait for the runtime.
  const { listSupportedBackends } = await import("onnxruntime-node");
  const available = listSupportedBackends()
    .filter((backend) => backend.bundled)
    .map((backend) => backend.name);
  if (!available.includes(wish)) {
    throw new EaselError(
      "device_unavailable",
      `The device "${wish}" is not available here; this installation can use ${available.join(" and ")}.`,
      { param: "device" },
    );
  }
  return wish;
}

/**
 * Whether this processor sums products of bytes without saturating: ARM does, and x86 with VNNI. Without it int8 weights
 * must use half their range. Where the processor does not say (only Linux does), the answer is the careful one.
 */
export function multipliesBytesExactly(): boolean {
  if (arch() === "arm64") return true;
  try {
    return /^flags\s*:.*\b(avx512_vnni|avx_vnni)\b/m.test(readFileSync("/proc/cpuinfo", "utf8"));
  } catch {
    return false;
  }
}
