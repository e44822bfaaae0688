/** The networks of FLUX.1 at their published sizes, or at others, as names and shapes with hardly a byte of weights. */
import {
  closeSync,
  cpSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import type { GraphFunction } from "../../src/pipelines/network-graphs.ts";
import { autoencoderDecoder, autoencoderEncoder, parseAutoencoderConfig } from "../../src/models/autoencoder.ts";
import { clipTextEncoder, parseClipTextConfig } from "../../src/models/clip-text-encoder.ts";
import { ConfigReader } from "../../src/models/config-reader.ts";
import { parseFluxConfig } from "../../src/models/flux/config.ts";
import { fluxTransformer } from "../../src/models/flux/transformer.ts";
import { parseT5Config, t5Encoder } from "../../src/models/t5-encoder.ts";
import type { ExternalTensor } from "../../src/onnx/graph-builder.ts";
import type { LinearShape, LinearWeight, NetworkWeights } from "../../src/weights/network-weights.ts";
import { type Component, components } from "../../src/weights/single-file.ts";
import { encodings, type TensorLocation, valueCount } from "../../src/weights/tensor-location.ts";
import { WeightSource } from "../../src/weights/weight-source.ts";

/** What the published config.json files say, as far as networks differ by it. */
export const publishedConfigs = {
  transformer: {
    in_channels: 64,
    out_channels: 64,
    num_layers: 19,
    num_single_layers: 38,
    attention_head_dim: 128,
    num_attention_heads: 24,
    joint_attention_dim: 4096,
    pooled_projection_dim: 768,
    guidance_embeds: true,
    axes_dims_rope: [16, 56, 56],
  },
  vae: {
    latent_channels: 16,
    block_out_channels: [128, 256, 512, 512],
    layers_per_block: 2,
    norm_num_groups: 32,
    scaling_factor: 0.3611,
    shift_factor: 0.1159,
    use_quant_conv: false,
    use_post_quant_conv: false,
    mid_block_add_attention: true,
  },
  text_encoder: {
    vocab_size: 49408,
    hidden_size: 768,
    intermediate_size: 3072,
    num_hidden_layers: 12,
    num_attention_heads: 12,
    max_position_embeddings: 77,
    layer_norm_eps: 1e-5,
    hidden_act: "quick_gelu",
    eos_token_id: 2,
  },
  text_encoder_2: {
    vocab_size: 32128,
    d_model: 4096,
    d_kv: 64,
    d_ff: 10240,
    num_layers: 24,
    num_heads: 64,
    relative_attention_num_buckets: 32,
    relative_attention_max_distance: 128,
    layer_norm_epsilon: 1e-6,
    feed_forward_proj: "gated-gelu",
  },
} satisfies Record<Component, object>;

/** A network's tensors as bfloat16, in a file that does not exist. */
export function fullSizeSource(component: Component, changes: object = {}): WeightSource {
  const recorder = new ShapeRecorder();
  for (const graph of graphs(component, changes)) graph(recorder);
  return new WeightSource(recorder.tensors, `full-size ${component}`);
}

function graphs(component: Component, changes: object): GraphFunction[] {
  const reader = new ConfigReader({ ...publishedConfigs[component], ...changes }, component);
  switch (component) {
    case "transformer": {
      const config = parseFluxConfig(reader);
      return [(weights) => fluxTransformer(config, weights)];
    }
    case "vae": {
      const config = parseAutoencoderConfig(reader);
      return [(weights) => autoencoderDecoder(config, weights), (weights) => autoencoderEncoder(config, weights)];
    }
    case "text_encoder": {
      const config = parseClipTextConfig(reader);
      return [(weights) => clipTextEncoder(config, weights)];
    }
    case "text_encoder_2": {
      const config = parseT5Config(reader);
      return [(weights) => t5Encoder(config, weights)];
    }
  }
}

/** Has whatever it is asked for, and remembers it. */
class ShapeRecorder implements NetworkWeights {
  readonly tensors = new Map<string, TensorLocation>();

  has(): boolean {
    return true;
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    const length = encodings.bfloat16.bytes * valueCount(shape);
    this.tensors.set(name, {
      name,
      encoding: "bfloat16",
      shape,
      file: "/nowhere/weights",
      ranges: [{ offset: 0, length }],
    });
    return { name, dtype: "bfloat16", shape, file: "/nowhere/weights", offset: 0, length };
  }

  linear(name: string, shape: LinearShape): LinearWeight {
    return { format: "float", weight: this.get(name, shape) };
  }
}

/**
 * A model folder of FLUX.1-dev's size whose weight files are all holes: they take no room on the disk. Its descriptions are
 * whole, its tokenizers are those of `tokenizersFrom`.
 */
export function writeHollowModel(folder: string, tokenizersFrom: string): void {
  for (const name of ["tokenizer", "tokenizer_2", "scheduler", "model_index.json"]) {
    cpSync(join(tokenizersFrom, name), join(folder, name), { recursive: true });
  }
  for (const component of components) {
    mkdirSync(join(folder, component), { recursive: true });
    writeFileSync(join(folder, component, "config.json"), JSON.stringify(publishedConfigs[component]));
    const file = join(
      folder,
      component,
      component.startsWith("text") ? "model.safetensors" : "diffusion_pytorch_model.safetensors",
    );
    writeHollowFile(file, fullSizeSource(component));
  }
}

function writeHollowFile(path: string, source: WeightSource): void {
  let end = 0;
  const entries = source.tensors().map(({ name, shape }) => {
    const start = end;
    end += encodings.bfloat16.bytes * valueCount(shape);
    return [name, { dtype: "BF16", shape, data_offsets: [start, end] }];
  });
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(path, Buffer.concat([length, header]));
  truncateSync(path, 8 + header.length + end);
}

/**
 * A copy of the tiny model whose transformer is large enough that converting it takes a second or more: 160 million weights, nearly
 * all of them zeros, in a file that is nearly all holes.
 */
export function writeSlowModel(folder: string, tinyFolder: string): void {
  cpSync(tinyFolder, folder, { recursive: true });
  const configFile = join(folder, "transformer", "config.json");
  const config = {
    ...(JSON.parse(readFileSync(configFile, "utf8")) as object),
    attention_head_dim: 128,
    num_attention_heads: 12,
    axes_dims_rope: [16, 56, 56],
    num_layers: 1,
    num_single_layers: 2,
  };
  writeFileSync(configFile, JSON.stringify(config));
  const file = join(folder, "transformer", "diffusion_pytorch_model.safetensors");
  rmSync(file);
  const source = fullSizeSource("transformer", config);
  writeHollowFile(file, source);
  const bytes = source.tensors().reduce((sum, { shape }) => sum + encodings.bfloat16.bytes * valueCount(shape), 0);
  // Something to get wrong here and there: numbers around one, of either sign.
  const numbers = Uint16Array.from({ length: 4096 }, (_, i) => 0x3f00 + ((i * 97) % 256) + (i % 3 === 0 ? 0x8000 : 0));
  const fd = openSync(file, "r+");
  for (let place = 1; place < 16; place++) writeSync(fd, numbers, 0, undefined, 2 * Math.floor((place * bytes) / 32));
  closeSync(fd);
}
