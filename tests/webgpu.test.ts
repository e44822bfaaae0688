/** WebGPU against diffusers' pictures, by whatever device there is: in CI a software one, which is slow and odd. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { chooseDevice } from "../src/onnx/device-choice.ts";
import { tryDevice } from "../src/onnx/device-trial.ts";
import { FluxPipeline, type FluxPipelineOptions } from "../src/pipelines/flux-pipeline.ts";
import type { GenerationParams } from "../src/pipelines/generation-plan.ts";
import { fixturesDir, psnr, readRgbImage } from "./oracle-fixtures.ts";
import { tinyModelFolder } from "./support/easel-server.ts";
import { drawCase, expectOraclePictures, leastPsnr, pictureCases } from "./support/picture-cases.ts";
import { runCli } from "./support/run-cli.ts";
import { findWebGpu } from "./support/webgpu.ts";

const hasWebGpu = await findWebGpu("Drawing on WebGPU");

let cwd: string;
beforeAll(() => (cwd = mkdtempSync(join(tmpdir(), "easel-webgpu-"))));
afterAll(() => rmSync(cwd, { recursive: true }));

const tiny = ["generate", "a cat", "--model", tinyModelFolder, "--size", "32x32", "--steps", "1", "--out", "cat.png"];

async function drawOnce(options: FluxPipelineOptions, params: GenerationParams): Promise<Uint8Array> {
  const pipeline = await FluxPipeline.load(options);
  const { images } = await pipeline.generate(params);
  await pipeline.dispose();
  return images[0]!.pixels;
}

/** A device in software takes a second for each of a picture's programs. */
const timeout = 300_000;

describe.skipIf(!hasWebGpu)("WebGPU", { timeout }, () => {
  describe.each([
    ["flux-dev-tiny", ["plain", "tall-odd", "true-cfg"]],
    ["flux-schnell-tiny", ["plain"]],
  ])("with %s", (model, names) => {
    let loading: Promise<FluxPipeline> | undefined;
    const pipeline = () => (loading ??= FluxPipeline.load({ modelDir: join(fixturesDir, model), device: "webgpu" }));
    afterAll(async () => (await loading)?.dispose());

    // The same tolerance as for the CPU; measured on SwiftShader: 77 dB and better.
    test.each(pictureCases.filter((c) => c.model === model && names.includes(c.name)))(
      "draws diffusers' picture: $name",
      async (c) => {
        const result = await drawCase(await pipeline(), c);
        expect(result.device).toBe("webgpu");
        await expectOraclePictures(result, c);
      },
    );
  });

  test("encodes a picture to start from as the CPU does", async () => {
    const modelDir = join(fixturesDir, "flux-dev-tiny");
    const size = { width: 64, height: 64 };
    const condition = { image: await readRgbImage("pictures/flux-dev-tiny/plain-0.png"), strength: 0.5 };
    const draw = async (device: "cpu" | "webgpu") => {
      const params = { prompt: "A white cat", ...size, numInferenceSteps: 2, seed: 3, numImages: 1, condition };
      return await drawOnce({ modelDir, device }, params);
    };
    expect(psnr(await draw("webgpu"), await draw("cpu"))).toBeGreaterThanOrEqual(leastPsnr);
  });

  test("multiplies int4 weights itself, as the CPU does", async () => {
    const options = { modelDir: join(fixturesDir, "flux-schnell-tiny"), precision: "int4", cacheDir: cwd } as const;
    const params = { prompt: "A white cat", width: 32, height: 32, numInferenceSteps: 1, seed: 3, numImages: 1 };
    const [actual, expected] = [
      await drawOnce({ ...options, device: "webgpu" }, params),
      await drawOnce({ ...options, device: "cpu" }, params),
    ];
    expect(psnr(actual, expected)).toBeGreaterThanOrEqual(leastPsnr);
  });

  test("leaves to the CPU at most attention, where the device gets it wrong, and says so", async () => {
    const trial = await tryDevice("webgpu");
    const attends = trial.works && trial.attends;
    const { code, stdout, stderr } = await runCli([...tiny, "--device", "webgpu", "--json"], { cwd });
    expect(code, stderr).toBe(0);
    const { device, notices } = JSON.parse(stdout) as { device: string; notices: string[] };
    expect(device).toBe("webgpu");
    expect(notices).toEqual(attends ? [] : ["WebGPU cannot do all of this model; the CPU did: MultiHeadAttention."]);
  });

  test("is not chosen by itself when it is slower than the CPU, as a device in software is", async () => {
    const [gpu, cpu] = [await tryDevice("webgpu"), await tryDevice("cpu")];
    if (!gpu.works || !cpu.works) throw new Error("both work");
    const choice = await chooseDevice("auto", {
      small: false,
      cpuFormat: undefined,
      needsHalfPrecision: false,
      gpuBytes: 0,
    });
    if (gpu.operationsPerSecond < cpu.operationsPerSecond) {
      expect(choice.device).toBe("cpu");
      expect(choice.reason).toMatch(/^WebGPU was slower in a trial/);
    } else {
      expect(choice.reason).toMatch(/^it was \d+\.\d times as fast as the CPU in a trial$/);
    }
  });

  test("draws in fp16 where it has half precision, and else refuses it with a sentence that says what is lacking", async () => {
    const trial = await tryDevice("webgpu");
    const { code, stdout, stderr } = await runCli([...tiny, "--device", "webgpu", "--precision", "fp16", "--json"], {
      cwd,
    });
    if (trial.works && trial.halfPrecision) {
      expect(code, stderr).toBe(0);
      expect(JSON.parse(stdout)).toMatchObject({ device: "webgpu", notices: [] });
      return;
    }
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^easel: The device "webgpu" cannot be used for fp16: half precision \(shader-f16\) does not work on this GPU with its driver; choose another precision, or choose the device cpu\.\n$/m,
    );
  });

  test("refuses int8 with a sentence, since its products would be done on the CPU", async () => {
    const { code, stderr } = await runCli([...tiny, "--device", "webgpu", "--precision", "int8"], { cwd });
    expect(code).toBe(1);
    expect(stderr).toMatch(/^easel: The device "webgpu" cannot be used for int8, [^\n]*\n$/m);
  });
});

test("a device that does not work is refused with the reason and what it needs", async () => {
  const nothing = join(cwd, "no-driver.json");
  const env = { VK_DRIVER_FILES: nothing, VK_ICD_FILENAMES: nothing };
  const device = process.platform === "linux" ? "webgpu" : "cuda";
  const { code, stderr } = await runCli([...tiny, "--device", device], { cwd, env });
  expect(code).toBe(1);
  expect(stderr).toMatch(/\neasel: The device "\w+" cannot be used: [^\n]{20,}, or choose the device cpu\.\n$/);
  expect(stderr).not.toContain("onnxruntime_src");
});

test("the choice is told while a picture is drawn, unless it was made by name", async () => {
  const auto = await runCli(tiny, { cwd });
  expect(auto.stderr).toContain("\nComputing on the CPU: the model is small\n");
  expect((await runCli([...tiny, "--device", "cpu"], { cwd })).stderr).not.toContain("Computing");
});
