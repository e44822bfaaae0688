/** Where a graph can run, and what each of these devices needs here. */
import { existsSync } from "node:fs";
import { createRequire } from "node:module";
import { arch, platform } from "node:os";
import { dirname, join } from "node:path";

export const deviceNames = ["auto", "cpu", "webgpu", "cuda", "coreml", "dml"] as const;
export type DeviceName = (typeof deviceNames)[number];

/** A device by name; no longer a wish. */
export type ResolvedDevice = Exclude<DeviceName, "auto">;

/** How sentences call them. */
export const deviceTitles: Readonly<Record<ResolvedDevice, string>> = {
  cpu: "the CPU",
  webgpu: "WebGPU",
  cuda: "CUDA",
  coreml: "Core ML",
  dml: "DirectML",
};

/** What a device needs besides ONNX Runtime's own parts. */
export const deviceNeeds: Readonly<Partial<Record<ResolvedDevice, string>>> = {
  webgpu: platform() === "linux" ? "it needs a GPU with a Vulkan driver" : "it needs a GPU with a current driver",
  cuda: "it needs an NVIDIA GPU with its driver, the libraries of CUDA 12, and cuDNN 9",
};

const installCuda = "ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node --ignore-scripts=false";

/** ONNX Runtime's parts for CUDA, which are too large for the npm registry. */
const cudaParts = ["libonnxruntime_providers_shared.so", "libonnxruntime_providers_cuda.so"];

/**
 * What this installation of ONNX Runtime lacks for a device, in a sentence with what to do; undefined when it has all its
 * parts, which does not mean yet that the machine has such a device.
 *
 * @param runtimeDir where ONNX Runtime's libraries are
 */
export async function missingParts(device: ResolvedDevice, runtimeDir = runtimeFolder()): Promise<string | undefined> {
  // Loaded here, not above: the command line reads this file's names and should not wait for the runtime.
  const { listSupportedBackends } = await import("onnxruntime-node");
  const backends = listSupportedBackends();
  if (device === "cuda" && backends.some(({ name }) => name === "cuda")) {
    if (cudaParts.every((file) => existsSync(join(runtimeDir, file)))) return undefined;
    return `ONNX Runtime's parts for CUDA are not installed; fetch them from nuget.org, some hundred megabytes, with \`${installCuda}\``;
  }
  const bundled = backends.filter((backend) => backend.bundled).map(({ name }) => name);
  if (bundled.includes(device)) return undefined;
  return `ONNX Runtime has no ${deviceTitles[device]} on this system (${platform()} ${arch()}); it can use ${bundled.join(" and ")}`;
}

function runtimeFolder(): string {
  const entry = createRequire(import.meta.url).resolve("onnxruntime-node/package.json");
  return join(dirname(entry), "bin", "napi-v6", platform(), arch());
}
