/**
 * A WebGPU device for tests: the machine's own, or SwiftShader, the Vulkan device in software that comes with Chromium. Where
 * there is neither, its tests are skipped aloud; where CI is set they fail.
 */
import { existsSync, realpathSync } from "node:fs";
import { dirname, join } from "node:path";
import { missingParts } from "../../src/onnx/devices.ts";
import { tryDevice } from "../../src/onnx/device-trial.ts";

const driverFile = "vk_swiftshader_icd.json";

/** Whether a WebGPU device was found; from then on this process and its children have it. `what` would be tested with it. */
export async function findWebGpu(what: string): Promise<boolean> {
  const missing = await missingParts("webgpu");
  if (missing !== undefined) {
    console.warn(`${what} is not tested: ${missing}.`); // also in CI: nothing that could be installed would help
    return false;
  }
  if (process.env["VK_DRIVER_FILES"] === undefined && process.platform === "linux") {
    const driver = swiftShader();
    if (driver !== undefined) process.env["VK_DRIVER_FILES"] = driver;
  }
  const trial = await tryDevice("webgpu");
  if (trial.works) return true;
  if (process.env["CI"]) throw new Error(`${what} must be tested in CI, but no WebGPU device works: ${trial.reason}.`);
  console.warn(
    `${what} is not tested: no WebGPU device works here (${trial.reason}); Debian's chromium and libvulkan1 bring one.`,
  );
  return false;
}

function swiftShader(): string | undefined {
  const chromium = process.env["EASEL_TEST_CHROMIUM"];
  const folders = ["/usr/lib/chromium", ...(chromium && existsSync(chromium) ? [dirname(realpathSync(chromium))] : [])];
  return folders.map((folder) => join(folder, driverFile)).find((file) => existsSync(file));
}
