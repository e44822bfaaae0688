/**
 * A stand-in for FLUX.1-dev: a model folder with every published name and shape, bfloat16 and sharded as published, and random
 * values. It draws noise, but loading, conversion, memory and speed are those of the real model. About 34 GB.
 */
import { cpSync, createWriteStream, existsSync, mkdirSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { once } from "node:events";
import { autoencoderDecoder, autoencoderEncoder, parseAutoencoderConfig } from "../src/models/autoencoder.ts";
import { clipTextEncoder, parseClipTextConfig } from "../src/models/clip-text-encoder.ts";
import { ConfigReader } from "../src/models/config-reader.ts";
import { parseFluxConfig } from "../src/models/flux/config.ts";
import { fluxTransformer } from "../src/models/flux/transformer.ts";
import { parseT5Config, t5Encoder } from "../src/models/t5-encoder.ts";
import type { ExternalTensor } from "../src/onnx/graph-builder.ts";
import type { LinearShape, LinearWeight, NetworkWeights } from "../src/weights/network-weights.ts";

export interface StandInOptions {
  /** Must not exist yet. */
  folder: string;
  /** FLUX.1-dev has 19 and 38. */
  doubleBlocks: number;
  singleBlocks: number;
}

type Shapes = ReadonlyMap<string, readonly number[]>;

const builtIn = join(import.meta.dirname, "../models/easel-sketch");
/** The built-in model's tokenizers serve: their numbers are small, and the stand-in draws nothing anyway. */
const endOfText = 4013;

const transformerConfig = {
  _class_name: "FluxTransformer2DModel",
  attention_head_dim: 128,
  guidance_embeds: true,
  in_channels: 64,
  joint_attention_dim: 4096,
  num_attention_heads: 24,
  patch_size: 1,
  pooled_projection_dim: 768,
};

const clipConfig = {
  eos_token_id: endOfText,
  hidden_act: "quick_gelu",
  hidden_size: 768,
  intermediate_size: 3072,
  layer_norm_eps: 1e-5,
  max_position_embeddings: 77,
  num_attention_heads: 12,
  num_hidden_layers: 12,
  vocab_size: 49408,
};

const t5Config = {
  d_ff: 10240,
  d_kv: 64,
  d_model: 4096,
  feed_forward_proj: "gated-gelu",
  layer_norm_epsilon: 1e-6,
  num_heads: 64,
  num_layers: 24,
  relative_attention_max_distance: 128,
  relative_attention_num_buckets: 32,
  vocab_size: 32128,
};

const autoencoderConfig = {
  _class_name: "AutoencoderKL",
  act_fn: "silu",
  block_out_channels: [128, 256, 512, 512],
  in_channels: 3,
  latent_channels: 16,
  layers_per_block: 2,
  mid_block_add_attention: true,
  norm_num_groups: 32,
  out_channels: 3,
  scaling_factor: 0.3611,
  shift_factor: 0.1159,
  use_post_quant_conv: false,
  use_quant_conv: false,
};

const schedulerConfig = {
  _class_name: "FlowMatchEulerDiscreteScheduler",
  base_image_seq_len: 256,
  base_shift: 0.5,
  max_image_seq_len: 4096,
  max_shift: 1.15,
  num_train_timesteps: 1000,
  shift: 3,
  use_dynamic_shifting: true,
};

/** Writes the folder and returns its size in bytes. Throws when it is there already or the disk is too small. */
export async function writeStandIn({ folder, doubleBlocks, singleBlocks }: StandInOptions): Promise<number> {
  if (existsSync(folder)) throw new Error(`${folder} exists already`);
  const flux = { ...transformerConfig, num_layers: doubleBlocks, num_single_layers: singleBlocks };
  const networks = [
    {
      name: "transformer",
      config: flux,
      file: "diffusion_pytorch_model",
      shards: 3,
      tensors: shapesOf((weights) => fluxTransformer(parseFluxConfig(reader(flux)), weights)),
    },
    {
      name: "text_encoder_2",
      config: t5Config,
      file: "model",
      shards: 2,
      tensors: shapesOf((weights) => t5Encoder(parseT5Config(reader(t5Config)), weights)),
    },
    {
      name: "text_encoder",
      config: clipConfig,
      file: "model",
      shards: 1,
      tensors: shapesOf((weights) => clipTextEncoder(parseClipTextConfig(reader(clipConfig)), weights)),
    },
    {
      name: "vae",
      config: autoencoderConfig,
      file: "diffusion_pytorch_model",
      shards: 1,
      tensors: shapesOf((weights) => {
        const config = parseAutoencoderConfig(reader(autoencoderConfig));
        autoencoderEncoder(config, weights);
        autoencoderDecoder(config, weights);
      }),
    },
  ];
  const bytes = networks.reduce((sum, { tensors }) => sum + bytesOf(tensors), 0);
  mkdirSync(folder, { recursive: true });
  const disk = statfsSync(folder);
  if (disk.bavail * disk.bsize < bytes) throw new Error(`${folder} needs ${bytes} bytes, more than the disk has free`);

  writeJson(join(folder, "model_index.json"), { _class_name: "FluxPipeline" });
  mkdirSync(join(folder, "scheduler"));
  writeJson(join(folder, "scheduler/scheduler_config.json"), schedulerConfig);
  for (const tokenizer of ["tokenizer", "tokenizer_2"]) {
    cpSync(join(builtIn, tokenizer), join(folder, tokenizer), { recursive: true });
  }
  for (const { name, config, file, shards, tensors } of networks) {
    mkdirSync(join(folder, name));
    writeJson(join(folder, name, "config.json"), config);
    await writeShards(join(folder, name), file, shards, tensors);
  }
  return bytes;
}

function reader(config: object): ConfigReader {
  return new ConfigReader({ ...config }, "config.json");
}

/** What a network asks of its weights when its graph is written. */
function shapesOf(write: (weights: NetworkWeights) => unknown): Shapes {
  const shapes = new Map<string, readonly number[]>();
  const get = (name: string, shape: readonly number[]): ExternalTensor => {
    shapes.set(name, shape);
    return { name, dtype: "bfloat16", shape, file: "weights", offset: 0, length: 0 };
  };
  const linear = (name: string, shape: LinearShape): LinearWeight => ({ format: "float", weight: get(name, shape) });
  write({ has: () => true, get, linear });
  return shapes;
}

const fiveDigits = (value: number) => String(value).padStart(5, "0");
const valuesOf = (shape: readonly number[]) => shape.reduce((a, b) => a * b, 1);
const bytesOf = (tensors: Shapes) => [...tensors.values()].reduce((sum, shape) => sum + 2 * valuesOf(shape), 0);

async function writeShards(folder: string, file: string, count: number, tensors: Shapes): Promise<void> {
  const limit = Math.ceil(bytesOf(tensors) / count);
  const shards: Map<string, readonly number[]>[] = [new Map()];
  let placedBytes = 0;
  for (const [name, shape] of tensors) {
    if (placedBytes > limit && shards.length < count) {
      shards.push(new Map());
      placedBytes = 0;
    }
    shards.at(-1)!.set(name, shape);
    placedBytes += 2 * valuesOf(shape);
  }
  const names = shards.map((_, i) =>
    count === 1 ? `${file}.safetensors` : `${file}-${fiveDigits(i + 1)}-of-${fiveDigits(shards.length)}.safetensors`,
  );
  for (const [i, shard] of shards.entries()) await writeSafetensors(join(folder, names[i]!), shard);
  if (count > 1) {
    const placed = shards.flatMap((shard, i) => [...shard.keys()].map((name) => [name, names[i]] as const));
    writeJson(join(folder, `${file}.safetensors.index.json`), { weight_map: Object.fromEntries(placed) });
  }
}

async function writeSafetensors(path: string, tensors: Shapes): Promise<void> {
  const header: Record<string, object> = {};
  let end = 0;
  for (const [name, shape] of tensors) {
    const start = end;
    end += 2 * valuesOf(shape);
    header[name] = { dtype: "BF16", shape, data_offsets: [start, end] };
  }
  const json = Buffer.from(JSON.stringify(header));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  const out = createWriteStream(path);
  out.write(length);
  out.write(json);
  for (const [name, shape] of tensors) {
    for (const bytes of randomTensor(name, shape)) if (!out.write(bytes)) await once(out, "drain");
  }
  out.end();
  await once(out, "finish");
}

/** Standard normal values, as bfloat16's float32; every tensor takes its own stretches of them. */
const pool = Float32Array.from({ length: 1 << 22 }, () => {
  return Math.sqrt(-2 * Math.log(1 - Math.random())) * Math.cos(2 * Math.PI * Math.random());
});

/** Values as an untrained network has them: norms of one, biases of zero, and rows that keep their input's size. */
function* randomTensor(name: string, shape: readonly number[]): Generator<Buffer> {
  const values = valuesOf(shape);
  const isNorm = shape.length === 1 && name.endsWith("weight");
  if (shape.length === 1) {
    yield repeated(values, isNorm ? 0x3f80 : 0);
    return;
  }
  const fanIn = values / shape[0]!;
  const scaled = scaledPool(1 / Math.sqrt(fanIn));
  for (let left = values; left > 0;) {
    const start = Math.floor((Math.random() * scaled.length) / 2);
    const part = scaled.subarray(start, start + Math.min(left, scaled.length - start));
    yield Buffer.from(part.buffer, part.byteOffset, part.byteLength);
    left -= part.length;
  }
}

function repeated(count: number, value: number): Buffer {
  const words = new Uint16Array(count).fill(value);
  return Buffer.from(words.buffer);
}

const scaledPools = new Map<number, Uint16Array>();

function scaledPool(scale: number): Uint16Array {
  let words = scaledPools.get(scale);
  if (words === undefined) {
    const bits = new Uint32Array(pool.map((value) => value * scale).buffer);
    words = Uint16Array.from(bits, (word) => word >>> 16);
    scaledPools.set(scale, words);
  }
  return words;
}

function writeJson(path: string, value: unknown): void {
  writeFileSync(path, JSON.stringify(value, undefined, 2));
}
