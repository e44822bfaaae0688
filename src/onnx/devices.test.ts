import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { arch, platform, tmpdir } from "node:os";
import { join } from "node:path";
import { expect, test } from "vitest";
import { missingParts } from "./devices.ts";

test("the CPU's parts are always there, and what another system has is told to be missing", async () => {
  expect(await missingParts("cpu")).toBeUndefined();
  const foreign = platform() === "win32" ? "coreml" : "dml";
  expect(await missingParts(foreign)).toMatch(/^ONNX Runtime has no .* on this system \(.*\); it can use cpu/);
});

test.skipIf(platform() !== "linux" || arch() !== "x64")("CUDA needs parts that npm does not bring", async () => {
  const folder = mkdtempSync(join(tmpdir(), "easel-cuda-"));
  const missing =
    /are not installed; fetch them .* with `ONNXRUNTIME_NODE_INSTALL=cuda12 npm rebuild onnxruntime-node /;
  expect(await missingParts("cuda", folder)).toMatch(missing);
  writeFileSync(join(folder, "libonnxruntime_providers_shared.so"), "");
  expect(await missingParts("cuda", folder)).toMatch(missing);
  writeFileSync(join(folder, "libonnxruntime_providers_cuda.so"), "");
  expect(await missingParts("cuda", folder)).toBeUndefined();
  rmSync(folder, { recursive: true });
});
