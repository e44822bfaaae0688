/** Where a graph can run, and the choice for this machine. */
import { listSupportedBackends } from "onnxruntime-node";
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
export function resolveDevice(wish: DeviceName): ResolvedDevice {
  if (wish === "auto") return "cpu";
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
