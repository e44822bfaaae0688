/** Where a graph can run, and the choice for this machine. */
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
