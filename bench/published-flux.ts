/** FLUX.1-dev as published: what its config.json files say, and the names and shapes of its weights, without a byte of them. */
import { ConfigReader } from "../src/models/config-reader.ts";
import type { ExternalTensor } from "../src/onnx/graph-builder.ts";
import { graphsOf } from "../src/pipelines/network-graphs.ts";
import type { LinearShape, LinearWeight } from "../src/weights/network-weights.ts";
import type { Component } from "../src/weights/single-file.ts";
import { encodings, valueCount } from "../src/weights/tensor-location.ts";

/** Tensors in the order in which the networks ask for them. */
export type Shapes = ReadonlyMap<string, readonly number[]>;

/** As far as networks differ by it. */
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

/** What a network with `config` asks of its weights when its graph is written. */
export function weightShapes(component: Component, config: object): Shapes {
  const shapes = new Map<string, readonly number[]>();
  const get = (name: string, shape: readonly number[]): ExternalTensor => {
    shapes.set(name, shape);
    return { name, dtype: "bfloat16", shape, file: "weights", offset: 0, length: 0 };
  };
  const linear = (name: string, shape: LinearShape): LinearWeight => ({ format: "float", weight: get(name, shape) });
  for (const graph of graphsOf(component, new ConfigReader({ ...config }, component))) {
    graph({ has: () => true, get, linear });
  }
  return shapes;
}

/** Bytes of a tensor, or of all of them, in bfloat16. */
export function bfloat16Bytes(of: Shapes | readonly number[]): number {
  if (!(of instanceof Map)) return encodings.bfloat16.bytes * valueCount(of as readonly number[]);
  return [...of.values()].reduce((sum, shape) => sum + bfloat16Bytes(shape), 0);
}

/** The beginning of a safetensors file with these tensors in bfloat16, one after the other. */
export function safetensorsHeader(tensors: Shapes): Buffer {
  let end = 0;
  const entries = [...tensors].map(([name, shape]) => {
    const start = end;
    end += bfloat16Bytes(shape);
    return [name, { dtype: "BF16", shape, data_offsets: [start, end] }];
  });
  const json = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(json.length));
  return Buffer.concat([length, json]);
}
