/** Whether a model fits, told before anything is loaded. */
import { existsSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { knownModels } from "../src/engine/known-models.ts";
import { ConfigReader } from "../src/models/config-reader.ts";
import { parseFluxConfig } from "../src/models/flux/config.ts";
import { fluxTransformer } from "../src/models/flux/transformer.ts";
import {
  choosePrecision,
  countWeights,
  largestNetworkBytes,
  planMemory,
  requireMemory,
} from "../src/pipelines/memory-plan.ts";
import type { Precision } from "../src/pipelines/precision.ts";
import { networkGraphs } from "../src/pipelines/network-graphs.ts";
import { openNetwork } from "../src/weights/model-files.ts";
import { WeightCounter } from "../src/weights/weight-count.ts";
import type { EaselError } from "../src/errors.ts";
import { tinyModelFolder } from "./support/easel-server.ts";
import { publishedConfigs } from "../bench/published-flux.ts";
import { fullSizeSource, writeHollowModel } from "./support/full-size.ts";
import { runCli } from "./support/run-cli.ts";

const gigabyte = 1e9;

let root: string;
let flux: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "easel-plan-"));
  flux = join(root, "FLUX.1-dev");
  writeHollowModel(flux, tinyModelFolder);
});
afterAll(() => rmSync(root, { recursive: true }));

const memory = (available: number, total = available) => ({
  availableBytes: available * gigabyte,
  totalBytes: total * gigabyte,
});
const refusal = (precision: Precision, ...figures: Parameters<typeof memory>): EaselError | undefined => {
  try {
    requireMemory(flux, precision, memory(...figures));
    return undefined;
  } catch (error) {
    return error as EaselError;
  }
};

describe("a precision that nobody chose", () => {
  test("is int8 for FLUX.1, however much memory there is", () => {
    expect(choosePrecision(countWeights(flux), memory(20))).toBe("int8");
    expect(choosePrecision(countWeights(flux), memory(500))).toBe("int8");
  });

  test("is int4 where int8 does not fit, unless that does not either", () => {
    expect(choosePrecision(countWeights(flux), memory(10))).toBe("int4");
    expect(choosePrecision(countWeights(flux), memory(2))).toBe("int8"); // which is then refused, with what would help
  });

  test("is fp32 for a small model", () => {
    expect(choosePrecision(countWeights(tinyModelFolder), memory(2))).toBe("fp32");
  });
});

describe("a model's memory", () => {
  // As diffusers and transformers count the published models' parameters.
  test.each([
    ["transformer", 11_901_408_320],
    ["text_encoder_2", 4_762_310_656],
    ["text_encoder", 123_060_480],
    ["vae", 83_819_683],
  ] as const)("counts every weight of FLUX.1-dev's %s", (component, parameters) => {
    const counter = new WeightCounter(openNetwork(flux, component));
    for (const graph of networkGraphs(flux, component)) graph(counter);
    const { linearValues, floatValues, halfValues } = counter.count;
    expect([linearValues + floatValues, halfValues]).toEqual([parameters, parameters]);
  });

  test.each([
    ["FLUX.1-dev", { guidance_embeds: true }],
    ["FLUX.1-schnell", { guidance_embeds: false }],
  ])("is known of %s before it is here", (name, config) => {
    const counter = new WeightCounter(fullSizeSource("transformer", config));
    fluxTransformer(parseFluxConfig(new ConfigReader({ ...publishedConfigs.transformer, ...config }, "")), counter);
    expect(knownModels.find((model) => model.name === name)?.transformer).toEqual(counter.count);
  });

  test("is that of its largest network, a byte a value in int8", () => {
    const { networks, neededBytes } = planMemory(countWeights(flux), "int8");
    expect(networks.transformer! / 11_901_408_320).toBeCloseTo(1, 1);
    expect(networks.text_encoder_2! / 4_762_310_656).toBeCloseTo(1.08, 2); // the table of words stays in float
    expect(neededBytes).toBeGreaterThan(networks.transformer!);
    expect(neededBytes).toBeLessThan(networks.transformer! * 1.1);
  });

  test("in fp32 is two copies of 16-bit weights while they are loaded, and one of others", () => {
    expect(planMemory(countWeights(flux), "fp32").networks.transformer).toBe(8 * 11_901_408_320);
    const { networks } = planMemory(countWeights(tinyModelFolder), "fp32");
    const counter = new WeightCounter(openNetwork(tinyModelFolder, "text_encoder_2"));
    for (const graph of networkGraphs(tinyModelFolder, "text_encoder_2")) graph(counter);
    expect(counter.count.halfValues).toBe(0);
    expect(networks.text_encoder_2).toBe(4 * (counter.count.linearValues + counter.count.floatValues));
  });
});

describe("fp16", () => {
  test("takes half of fp32's memory on a GPU, and on the CPU, which computes it in fp32, no less than that", () => {
    const counts = countWeights(flux);
    const values = 11_901_408_320;
    expect(largestNetworkBytes(counts, "fp32")).toBe(4 * values);
    expect(largestNetworkBytes(counts, "fp16") / (2 * values)).toBeCloseTo(1, 1); // some layers stay in float
    expect(planMemory(counts, "fp16").networks.transformer).toBeGreaterThan(4 * values);
  });

  test("is neither chosen for the CPU nor advised, whatever there is", () => {
    for (const available of [2, 10, 20, 60, 90, 500]) {
      expect(choosePrecision(countWeights(flux), memory(available), (precision) => precision === "fp16")).not.toBe(
        "fp16",
      );
      expect(refusal("fp32", available)?.message ?? "").not.toContain("fp16");
    }
    expect(refusal("fp16", 20)?.message).toMatch(
      /^This model needs about 7\d\.\d GB of memory in fp16, .*; choose int8, which needs 13\.0 GB\.$/,
    );
  });
});

describe("a model that cannot fit", () => {
  test("is refused with what it needs, what there is, and what would fit", () => {
    const error = refusal("fp32", 20, 24);
    expect(error?.code).toBe("insufficient_memory");
    expect(error?.message).toMatch(
      /^This model needs about 100 GB of memory in fp32, and 20\.0 GB of 24\.0 GB are available; choose int8, which needs 13\.0 GB\.$/,
    );
    expect(refusal("int8", 8, 24)?.message).toMatch(
      / in int8, and 8\.0 GB of 24\.0 GB are available; end other programs\.$/,
    );
    expect(refusal("fp32", 8)?.message).toMatch(/; it takes a machine with more \(int4 needs 8\.\d GB\)\.$/);
    expect(refusal("int4", 8)?.message).toMatch(/; it takes a machine with more\.$/);
    expect(refusal("int8", 10)?.message).toMatch(/; choose int4, which needs 8\.\d GB\.$/);
    expect(refusal("int8", 16)).toBeUndefined();
  });

  test("is refused before it is converted or loaded, in one sentence", async () => {
    const args = ["generate", "a cat", "--model", flux, "--precision", "fp32", "--device", "cpu"];
    const { code, stderr } = await runCli(args, { cwd: root });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^Loading FLUX\.1-dev\neasel: This model needs about 100 GB of memory in fp32, and .* are available; [^\n]*\n$/,
    );
    expect(existsSync(join(root, "home", "cache"))).toBe(false);
  });

  test("is refused where the operator allows less than the machine has", async () => {
    const args = ["generate", "a cat", "--model", flux, "--precision", "int8", "--device", "cpu"];
    const { code, stderr } = await runCli(args, { cwd: root, env: { EASEL_MEMORY_LIMIT_BYTES: "2000000000" } });
    expect(code).toBe(1);
    expect(stderr).toMatch(
      / in int8, and 1\.\d GB of 2\.0 GB are available; it takes a machine with more \(int4 needs /,
    );
  });
});
