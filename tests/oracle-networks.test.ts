/** Each network against diffusers' and transformers' own, on tiny random weights. */
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { ConfigReader } from "../src/models/config-reader.ts";
import { autoencoderDecoder, autoencoderEncoder, parseAutoencoderConfig } from "../src/models/autoencoder.ts";
import { clipTextEncoder, parseClipTextConfig, pooledPosition } from "../src/models/clip-text-encoder.ts";
import { parseFluxConfig } from "../src/models/flux/config.ts";
import { fluxTransformer, ropeTable, timestepEmbedding } from "../src/models/flux/transformer.ts";
import { parseT5Config, relativePositionBuckets, t5Encoder } from "../src/models/t5-encoder.ts";
import { Session } from "../src/onnx/session.ts";
import { WeightSource } from "../src/weights/weight-source.ts";
import { fixturesDir, readFixtureTensors, relativeError } from "./oracle-fixtures.ts";

/** Float32 sums in another order differ by about 1e-6; a wrong formula differs by far more than this. */
const tolerance = 1e-4;
const device = { device: "cpu", threads: 1 } as const;

function int64(values: Iterable<number>): BigInt64Array {
  return BigInt64Array.from([...values], BigInt);
}

describe.each(["flux-dev-tiny", "flux-schnell-tiny"])("the networks of %s", (model) => {
  const folder = (component: string) => join(fixturesDir, model, component);
  const recorded = (network: string) => readFixtureTensors(`networks/${model}/${network}.safetensors`);

  it("the CLIP text encoder gives transformers' states and pooled embedding", async () => {
    const { input_ids: ids, last_hidden_state: states, pooled } = recorded("text_encoder");
    const config = parseClipTextConfig(ConfigReader.read(folder("text_encoder")));
    const session = await Session.create(
      clipTextEncoder(config, WeightSource.openFolder(folder("text_encoder"))),
      device,
    );
    const { last_hidden_state: actual } = await session.run({
      input_ids: { data: int64(ids!.data), dims: ids!.dims },
      position_ids: { data: int64(ids!.data.keys()), dims: [ids!.data.length] },
    });
    expect(relativeError(actual!.data, states!.data)).toBeLessThan(tolerance);
    const row = pooledPosition(ids!.data, config) * config.hiddenSize;
    expect(relativeError(actual!.data.slice(row, row + config.hiddenSize), pooled!.data)).toBeLessThan(tolerance);
  });

  it("the T5 encoder gives transformers' states", async () => {
    const { input_ids: ids, last_hidden_state: states } = recorded("text_encoder_2");
    const config = parseT5Config(ConfigReader.read(folder("text_encoder_2")));
    const session = await Session.create(t5Encoder(config, WeightSource.openFolder(folder("text_encoder_2"))), device);
    const length = ids!.data.length;
    const { last_hidden_state: actual } = await session.run({
      input_ids: { data: int64(ids!.data), dims: ids!.dims },
      relative_buckets: { data: relativePositionBuckets(length, config), dims: [length, length] },
    });
    expect(relativeError(actual!.data, states!.data)).toBeLessThan(tolerance);
  });

  it("the transformer gives diffusers' velocity", async () => {
    const io = recorded("transformer");
    const config = parseFluxConfig(ConfigReader.read(folder("transformer")));
    const session = await Session.create(
      fluxTransformer(config, WeightSource.openFolder(folder("transformer"))),
      device,
    );
    const ids = Float32Array.of(...io["txt_ids"]!.data, ...io["img_ids"]!.data);
    const { cos, sin } = ropeTable(ids, config.axesDimsRope);
    const ropeDims = [ids.length / 3, config.attentionHeadDim / 2];
    const { velocity } = await session.run({
      img: io["hidden_states"]!,
      txt: io["encoder_hidden_states"]!,
      pooled: io["pooled_projections"]!,
      timestep: { data: timestepEmbedding(io["timestep"]!.data[0]!), dims: [1, 256] },
      ...(config.guidanceEmbeds
        ? { guidance: { data: timestepEmbedding(io["guidance"]!.data[0]!), dims: [1, 256] } }
        : {}),
      pe_cos: { data: cos, dims: ropeDims },
      pe_sin: { data: sin, dims: ropeDims },
    });
    expect(relativeError(velocity!.data, io["sample"]!.data)).toBeLessThan(tolerance);
  });

  it("the autoencoder decodes latents into diffusers' image", async () => {
    const { latents, image } = recorded("vae_decoder");
    const config = parseAutoencoderConfig(ConfigReader.read(folder("vae")));
    const session = await Session.create(autoencoderDecoder(config, WeightSource.openFolder(folder("vae"))), device);
    const { image: actual } = await session.run({ latents: latents! });
    expect(actual!.dims).toEqual(image!.dims);
    expect(relativeError(actual!.data, image!.data)).toBeLessThan(tolerance);
  });

  it("the autoencoder encodes an image into diffusers' latent distribution", async () => {
    const { image, mean, logvar } = recorded("vae_encoder");
    const config = parseAutoencoderConfig(ConfigReader.read(folder("vae")));
    const session = await Session.create(autoencoderEncoder(config, WeightSource.openFolder(folder("vae"))), device);
    const { moments } = await session.run({ image: image! });
    const half = moments!.data.length / 2;
    expect(relativeError(moments!.data.slice(0, half), mean!.data)).toBeLessThan(tolerance);
    expect(relativeError(moments!.data.slice(half), logvar!.data)).toBeLessThan(tolerance);
  });
});
