/**
 * fp16 as a device with half precision computes it: every product's inputs and results rounded, which the CPU leaves out by itself
 * (see `roundHalves`). What it costs in accuracy, and that nothing overflows where FLUX and T5 are known to.
 */
import { cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from "vitest";
import { ConfigReader } from "../src/models/config-reader.ts";
import { parseFluxConfig } from "../src/models/flux/config.ts";
import { fluxTransformer, ropeTable, timestepEmbedding } from "../src/models/flux/transformer.ts";
import { parseT5Config, relativePositionBuckets, t5Encoder } from "../src/models/t5-encoder.ts";
import { GraphBuilder, type OnnxGraph } from "../src/onnx/graph-builder.ts";
import { type HostTensor, Session } from "../src/onnx/session.ts";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import type { GraphFunction } from "../src/pipelines/network-graphs.ts";
import { StoredWeights, WeightConverter } from "../src/weights/converted-weights.ts";
import { WeightSource } from "../src/weights/weight-source.ts";
import { fixturesDir, psnr, readFixtureTensors, readRgbImage, relativeError } from "./oracle-fixtures.ts";
import { drawCase, type PictureCase, pictureCases } from "./support/picture-cases.ts";
import { asFloat32, readNetwork } from "./support/single-files.ts";
import { writeSafetensors } from "./support/weight-files.ts";

vi.mock("../src/onnx/model-proto.ts", async (original) => {
  const proto = await original<typeof import("../src/onnx/model-proto.ts")>();
  const { roundHalves } = await import("./support/half-precision.ts");
  const encodeModel: typeof proto.encodeModel = (model) => proto.encodeModel(roundHalves(model));
  return { ...proto, encodeModel };
});

let root: string;
let cacheDir: string;
beforeAll(() => {
  root = mkdtempSync(join(tmpdir(), "easel-half-"));
  cacheDir = join(root, "cache");
});
afterAll(() => rmSync(root, { recursive: true }));
afterEach(() => vi.restoreAllMocks());

async function run(graph: OnnxGraph, inputs: Record<string, HostTensor>): Promise<Float32Array> {
  const session = await Session.create(graph, { device: "cpu", threads: 1 });
  const results = await session.run(inputs);
  await session.dispose();
  return Object.values(results)[0]!.data;
}

test("a product here rounds and overflows as in half precision, so that these tests can fail", async () => {
  const g = new GraphBuilder("product");
  const weight = g.half(g.constant(new Float32Array([1]), [1, 1]));
  g.output("y", g.linearHalf(g.input("x", "float32", [4, 1]), weight));
  const y = await run(g.build(), { x: { data: new Float32Array([2049, 0.1, 70_000, -70_000]), dims: [4, 1] } });
  expect([...y]).toEqual([2048, 0.0999755859375, Infinity, -Infinity]);
});

describe("pictures in fp16", () => {
  const cases = pictureCases.filter(({ name }) => ["plain", "tall-odd", "true-cfg", "non-latin"].includes(name));

  // Ten bits of mantissa, where int8 has seven; measured 64 to 68 dB.
  test.each(cases)("are diffusers' in float32 but for rounding: $model, $name", async (c) => {
    const options = { modelDir: join(fixturesDir, c.model), precision: "fp16", device: "cpu", cacheDir } as const;
    const pipeline = await FluxPipeline.load(options);
    const { images } = await drawCase(pipeline, c);
    await pipeline.dispose();
    const distance = psnr(images[0]!.pixels, (await readRgbImage(`pictures/${c.files[0]}`)).pixels);
    expect(distance).toBeGreaterThan(60);
    expect(distance).toBeLessThan(75); // in float32 they come within 77 dB and better
  });

  test("have their LoRAs: diffusers' picture with both", async () => {
    const formats = join(fixturesDir, "formats");
    const recorded = JSON.parse(readFileSync(join(formats, "lora-both.json"), "utf8")) as PictureCase;
    const modelDir = join(fixturesDir, "flux-dev-tiny");
    const pipeline = await FluxPipeline.load({ modelDir, precision: "fp16", device: "cpu", cacheDir });
    const { images } = await pipeline.generate({
      ...recorded,
      numImages: 1,
      numInferenceSteps: recorded.steps,
      guidanceScale: recorded.guidance,
      maxSequenceLength: recorded.max_sequence_length,
      loras: [
        { file: join(formats, "lora-diffusers.safetensors"), scale: 0.7 },
        { file: join(formats, "lora-kohya.safetensors"), scale: -0.5 },
      ],
    });
    await pipeline.dispose();
    const { pixels } = await readRgbImage("formats/lora-both.png");
    expect(psnr(images[0]!.pixels, pixels)).toBeGreaterThan(55); // without the LoRAs less than 25 dB
  });

  test("are the built-in model's in fp32 but for rounding; its weights, which are float16, stay where they lie", async () => {
    const modelDir = join(import.meta.dirname, "../models/easel-sketch");
    const draw = async (precision: "fp16" | "fp32") => {
      const pipeline = await FluxPipeline.load({ modelDir, precision, device: "cpu" }); // without a cache to convert into
      const request = { prompt: "A white cat", width: 256, height: 256, seed: 1, numImages: 1 };
      const { images } = await pipeline.generate(request);
      await pipeline.dispose();
      return images[0]!.pixels;
    };
    const distance = psnr(await draw("fp16"), await draw("fp32"));
    expect(distance).toBeGreaterThan(60); // measured 65 dB
    expect(distance).toBeLessThan(75); // without the roundings 76 dB
  });
});

/** The oracle's network with some of its tensors multiplied: in full, and converted to fp16. */
async function multiplied(component: string, factors: Record<string, number>) {
  const original = join(fixturesDir, "flux-dev-tiny", component);
  const tensors = readNetwork(original);
  const left = new Set(Object.keys(factors));
  for (const [name, tensor] of Object.entries(tensors)) {
    const ending = Object.keys(factors).find((one) => name.endsWith(one));
    if (ending === undefined) continue;
    left.delete(ending);
    tensor.values = tensor.values.map((value) => value * factors[ending]!);
  }
  expect([...left]).toEqual([]);
  const folder = mkdtempSync(join(root, `${component}-`));
  cpSync(join(original, "config.json"), join(folder, "config.json"));
  writeSafetensors(join(folder, "model.safetensors"), asFloat32(tensors));
  const exact = WeightSource.openFolder(folder);
  const convert = async (graph: GraphFunction) => {
    const converter = new WeightConverter(exact, { linear: "fp16", int8Limit: 127 });
    graph(converter);
    mkdirSync(join(folder, "converted"), { recursive: true });
    await converter.write(join(folder, "converted"));
    return StoredWeights.open(join(folder, "converted"))!;
  };
  return { folder, exact, convert };
}

/** Takes away what keeps `wide` layers in range. */
function leaveTokensAsTheyAre(): void {
  vi.spyOn(GraphBuilder.prototype, "normalizeTokens").mockImplementation(function (this: GraphBuilder, x) {
    return { values: this.float(x), scale: this.constant(new Float32Array([1]), []) };
  });
}

const isFinite = (values: Float32Array) => values.every((value) => Number.isFinite(value));

/** A rounding to ten bits in each product; what overflowed would be none of the numbers. */
const tolerance = 0.005;

describe("T5, whose hidden layer and states leave half precision's range", () => {
  const { input_ids: ids } = readFixtureTensors("networks/flux-dev-tiny/text_encoder_2.safetensors");
  const length = ids!.data.length;

  test.each([
    ["by what goes into the last linear layer", { "wi_0.weight": 300, "wi_1.weight": 3000 }],
    ["by what comes out of it", { "wi_1.weight": 100, "wo.weight": 10_000 }],
  ])("gives the states of fp32 all the same: %s", async (_, factors) => {
    const { folder, exact, convert } = await multiplied("text_encoder_2", factors);
    const config = parseT5Config(ConfigReader.read(folder));
    const inputs = {
      input_ids: { data: BigInt64Array.from([...ids!.data], BigInt), dims: ids!.dims },
      relative_buckets: { data: relativePositionBuckets(length, config), dims: [length, length] },
    };
    const stored = await convert((weights) => t5Encoder(config, weights));
    const expected = await run(t5Encoder(config, exact), inputs);
    expect(relativeError(await run(t5Encoder(config, stored), inputs), expected)).toBeLessThan(tolerance);

    leaveTokensAsTheyAre();
    expect(isFinite(await run(t5Encoder(config, stored), inputs))).toBe(false);
  });
});

describe("the transformer, whose text and joined streams leave half precision's range", () => {
  const io = readFixtureTensors("networks/flux-dev-tiny/transformer.safetensors");

  test.each([
    ["the text's MLP", { "ff_context.net.2.weight": 50_000, "ff_context.net.2.bias": 50_000 }],
    ["the single blocks", { "0.proj_out.weight": 50_000, "0.proj_out.bias": 50_000 }],
  ])("gives the velocity of fp32 all the same: %s", async (_, factors) => {
    const { folder, exact, convert } = await multiplied("transformer", factors);
    const config = parseFluxConfig(ConfigReader.read(folder));
    const { cos, sin } = ropeTable(
      Float32Array.of(...io["txt_ids"]!.data, ...io["img_ids"]!.data),
      config.axesDimsRope,
    );
    const ropeDims = [cos.length / (config.attentionHeadDim / 2), config.attentionHeadDim / 2];
    const inputs = {
      img: io["hidden_states"]!,
      txt: io["encoder_hidden_states"]!,
      pooled: io["pooled_projections"]!,
      timestep: { data: timestepEmbedding(io["timestep"]!.data[0]!), dims: [1, 256] },
      guidance: { data: timestepEmbedding(io["guidance"]!.data[0]!), dims: [1, 256] },
      pe_cos: { data: cos, dims: ropeDims },
      pe_sin: { data: sin, dims: ropeDims },
    };
    const stored = await convert((weights) => fluxTransformer(config, weights));
    const expected = await run(fluxTransformer(config, exact), inputs);
    const actual = await run(fluxTransformer(config, stored), inputs);
    expect(relativeError(actual, expected)).toBeLessThan(tolerance);

    leaveTokensAsTheyAre();
    expect(isFinite(await run(fluxTransformer(config, stored), inputs))).toBe(false);
  });
});
