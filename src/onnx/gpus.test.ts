import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test, vi } from "vitest";
import { listGpus, mayHaveGpu } from "./gpus.ts";

let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), "easel-gpus-"))));
afterEach(() => rmSync(root, { recursive: true }));

function write(path: string, text = ""): void {
  mkdirSync(join(root, path, ".."), { recursive: true });
  writeFileSync(join(root, path), text);
}

/** A program that prints what NVIDIA's prints. */
function nvidiaSmi(output: string): string {
  write("nvidia-smi", `#!/bin/sh\ncat <<'END'\n${output}\nEND\n`);
  chmodSync(join(root, "nvidia-smi"), 0o755);
  return join(root, "nvidia-smi");
}

describe.skipIf(process.platform !== "linux")("on Linux", () => {
  test.each(["dev/dri/renderD128", "dev/nvidia0", "dev/dxg"])(
    "there may be a GPU where there is a %s",
    async (path) => {
      vi.stubEnv("VK_DRIVER_FILES", "").stubEnv("VK_ICD_FILENAMES", "");
      write("dev/nvidiactl-is-none");
      expect(await mayHaveGpu(root)).toBe(false);
      write(path);
      expect(await mayHaveGpu(root)).toBe(true);
      vi.unstubAllEnvs();
    },
  );

  test("NVIDIA's GPUs are those of its program, with their memory", async () => {
    write("sys/class/drm/card0/device/vendor", "0x10de\n");
    const program = nvidiaSmi("NVIDIA H100 80GB HBM3, 81559\nNVIDIA GB10, [N/A]");
    expect(await listGpus({ root, nvidiaSmi: program })).toEqual([
      { name: "NVIDIA H100 80GB HBM3", memoryBytes: 81559 * 2 ** 20 },
      { name: "NVIDIA GB10", memoryBytes: undefined },
    ]);
  });

  test("other GPUs are found by their maker, with the memory where the driver tells it", async () => {
    write("sys/class/drm/card0/device/vendor", "0x8086\n");
    write("sys/class/drm/card1/device/vendor", "0x1002\n");
    write("sys/class/drm/card1/device/mem_info_vram_total", "17163091968\n");
    write("sys/class/drm/card1-DP-1/device/vendor", "0x1002\n");
    write("sys/class/drm/card2/device/vendor", "0x1af4\n");
    expect(await listGpus({ root, nvidiaSmi: join(root, "none") })).toEqual([
      { name: "Intel GPU", memoryBytes: undefined },
      { name: "AMD GPU", memoryBytes: 17163091968 },
    ]);
  });

  test("a program that prints no list tells of no GPU", async () => {
    expect(await listGpus({ root, nvidiaSmi: nvidiaSmi("NVIDIA-SMI has failed because …") })).toEqual([]);
    expect(await listGpus({ root, nvidiaSmi: join(root, "none") })).toEqual([]);
  });
});
