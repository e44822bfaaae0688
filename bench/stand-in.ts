/**
 * A stand-in for FLUX.1-dev: a model folder with every published name and shape, bfloat16 and sharded as published, and random
 * values. It draws noise, but loading, conversion, memory and speed are those of the real model. About 34 GB.
 */
import { cpSync, createWriteStream, existsSync, mkdirSync, readFileSync, statfsSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { once } from "node:events";
import { type Component, components } from "../src/weights/single-file.ts";
import { valueCount } from "../src/weights/tensor-location.ts";
import { bfloat16Bytes, publishedConfigs, safetensorsHeader, type Shapes, weightShapes } from "./published-flux.ts";

export interface StandInOptions {
  /** Must not exist yet. */
  folder: string;
  /** FLUX.1-dev has 19 and 38. */
  doubleBlocks: number;
  singleBlocks: number;
}

/** Its tokenizers serve: their numbers are small, and the stand-in draws nothing anyway. */
const builtIn = join(import.meta.dirname, "../models/easel-sketch");

/** Files of weights, as published. */
const shardCounts: Record<Component, number> = { transformer: 3, text_encoder_2: 2, text_encoder: 1, vae: 1 };

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
  // Besides what Easel reads: what diffusers wants to see.
  const changes: Partial<Record<Component, object>> = {
    transformer: {
      _class_name: "FluxTransformer2DModel",
      patch_size: 1,
      num_layers: doubleBlocks,
      num_single_layers: singleBlocks,
    },
    vae: { _class_name: "AutoencoderKL", act_fn: "silu", in_channels: 3, out_channels: 3 },
    text_encoder: { eos_token_id: builtInEndOfText() },
  };
  const networks = components.map((name) => {
    const config = { ...publishedConfigs[name], ...changes[name] };
    return { name, config, tensors: weightShapes(name, config) };
  });
  const bytes = networks.reduce((sum, { tensors }) => sum + bfloat16Bytes(tensors), 0);
  mkdirSync(folder, { recursive: true });
  const disk = statfsSync(folder);
  if (disk.bavail * disk.bsize < bytes) throw new Error(`${folder} needs ${bytes} bytes, more than the disk has free`);

  writeJson(join(folder, "model_index.json"), { _class_name: "FluxPipeline" });
  mkdirSync(join(folder, "scheduler"));
  writeJson(join(folder, "scheduler/scheduler_config.json"), schedulerConfig);
  for (const tokenizer of ["tokenizer", "tokenizer_2"]) {
    cpSync(join(builtIn, tokenizer), join(folder, tokenizer), { recursive: true });
  }
  for (const { name, config, tensors } of networks) {
    mkdirSync(join(folder, name));
    writeJson(join(folder, name, "config.json"), config);
    const file = name.startsWith("text") ? "model" : "diffusion_pytorch_model";
    await writeShards(join(folder, name), file, shardCounts[name], tensors);
  }
  return bytes;
}

function builtInEndOfText(): number {
  const config = readFileSync(join(builtIn, "text_encoder/config.json"), "utf8");
  return (JSON.parse(config) as { eos_token_id: number }).eos_token_id;
}

const fiveDigits = (value: number) => String(value).padStart(5, "0");

async function writeShards(folder: string, file: string, count: number, tensors: Shapes): Promise<void> {
  const limit = Math.ceil(bfloat16Bytes(tensors) / count);
  const shards: Map<string, readonly number[]>[] = [new Map()];
  let placedBytes = 0;
  for (const [name, shape] of tensors) {
    if (placedBytes > limit && shards.length < count) {
      shards.push(new Map());
      placedBytes = 0;
    }
    shards.at(-1)!.set(name, shape);
    placedBytes += bfloat16Bytes(shape);
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
  const out = createWriteStream(path);
  out.write(safetensorsHeader(tensors));
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
  const values = valueCount(shape);
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
