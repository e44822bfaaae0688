/** Other formats through the real networks, against what diffusers and transformers made of the same weights. */
import { cpSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { autoencoderDecoder, autoencoderEncoder, parseAutoencoderConfig } from "../src/models/autoencoder.ts";
import { ConfigReader } from "../src/models/config-reader.ts";
import { parseT5Config, relativePositionBuckets, t5Encoder } from "../src/models/t5-encoder.ts";
import { Session } from "../src/onnx/session.ts";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import { type LoraComponent, loraDelta, openLora } from "../src/weights/lora.ts";
import { readTensor } from "../src/weights/tensor-data.ts";
import { WeightSource } from "../src/weights/weight-source.ts";
import { fixturesDir, psnr, readFixtureTensors, readRgbImage, relativeError } from "./oracle-fixtures.ts";
import { float32, type TensorToWrite, writeSafetensors } from "./support/weight-files.ts";

const formats = join(fixturesDir, "formats");
const dev = join(fixturesDir, "flux-dev-tiny");
const dir = mkdtempSync(join(tmpdir(), "easel-formats-"));
afterAll(() => rmSync(dir, { recursive: true }));

/** As in oracle-networks.test.ts: float32 sums in another order differ by about 1e-6. */
const tolerance = 1e-4;
const device = { device: "cpu", threads: 1 } as const;

describe("a network from another format", () => {
  it("decodes and encodes as diffusers' autoencoder: ae.safetensors", async () => {
    const config = parseAutoencoderConfig(ConfigReader.read(join(dev, "vae")));
    const weights = WeightSource.openFile(join(formats, "ae.safetensors"), "vae");
    const { latents, image } = readFixtureTensors("networks/flux-dev-tiny/vae_decoder.safetensors");
    const decoder = await Session.create(autoencoderDecoder(config, weights), device);
    expect(relativeError((await decoder.run({ latents: latents! }))["image"]!.data, image!.data)).toBeLessThan(
      tolerance,
    );

    const encoded = readFixtureTensors("networks/flux-dev-tiny/vae_encoder.safetensors");
    const encoder = await Session.create(autoencoderEncoder(config, weights), device);
    const { moments } = await encoder.run({ image: encoded["image"]! });
    const mean = moments!.data.slice(0, moments!.data.length / 2);
    expect(relativeError(mean, encoded["mean"]!.data)).toBeLessThan(tolerance);
  });

  it("gives transformers' T5 states, its weights mapped out of a GGUF file", async () => {
    const { input_ids: ids, last_hidden_state: states } = readFixtureTensors(
      "networks/flux-dev-tiny/text_encoder_2.safetensors",
    );
    const config = parseT5Config(ConfigReader.read(join(dev, "text_encoder_2")));
    const weights = WeightSource.openFile(join(formats, "t5.gguf"), "text_encoder_2");
    const session = await Session.create(t5Encoder(config, weights), device);
    const length = ids!.data.length;
    const { last_hidden_state: actual } = await session.run({
      input_ids: { data: BigInt64Array.from([...ids!.data], BigInt), dims: ids!.dims },
      relative_buckets: { data: relativePositionBuckets(length, config), dims: [length, length] },
    });
    expect(relativeError(actual!.data, states!.data)).toBeLessThan(tolerance);
  });
});

it("two LoRAs at once draw diffusers' picture", async () => {
  const loras = [
    { lora: openLora(join(formats, "lora-diffusers.safetensors")), scale: 0.7 },
    { lora: openLora(join(formats, "lora-kohya.safetensors")), scale: -0.5 },
  ];
  const fuse = (component: LoraComponent, file: string): void => {
    const weights = WeightSource.openFolder(join(dev, component));
    const fused: Record<string, TensorToWrite> = {};
    for (const name of weights.names()) {
      const shape = weights.shapeOf(name)!;
      const values = readTensor(weights.locate(name, shape));
      const delta = loraDelta(loras, component, name, shape);
      fused[name] = float32(shape, delta === undefined ? values : values.map((value, i) => value + delta[i]!));
    }
    writeSafetensors(join(dir, component, file), fused);
  };
  cpSync(dev, dir, { recursive: true });
  fuse("transformer", "diffusion_pytorch_model.safetensors");
  fuse("text_encoder", "model.safetensors");

  const pipeline = await FluxPipeline.load({ modelDir: dir, precision: "fp32" });
  const c = JSON.parse(readFileSync(join(formats, "lora-both.json"), "utf8")) as Record<string, number> & {
    prompt: string;
  };
  const { images } = await pipeline.generate({
    prompt: c.prompt,
    width: c["width"]!,
    height: c["height"]!,
    numInferenceSteps: c["steps"],
    guidanceScale: c["guidance"],
    maxSequenceLength: c["max_sequence_length"],
    seed: c["seed"]!,
    numImages: 1,
  });
  await pipeline.dispose();
  const expected = await readRgbImage("formats/lora-both.png");
  const plain = await readRgbImage("pictures/flux-dev-tiny/plain-0.png");
  // As in oracle-pictures.test.ts: 45 dB is rounding alone; without the LoRAs it is another picture.
  expect(psnr(images[0]!.pixels, expected.pixels)).toBeGreaterThanOrEqual(45);
  expect(psnr(plain.pixels, expected.pixels)).toBeLessThan(25);
});
