/**
 * T5's encoder (Raffel et al. 2020; gated as in T5 v1.1): a transformer with relative position biases, RMS norms and
 * unscaled attention. Follows transformers' `T5EncoderModel`, whose weight names it reads. Its last linear layer is `wide`, since that
 * is where T5 leaves half precision's range, for which transformers keeps it in float32.
 */
import { GraphBuilder, type OnnxGraph, type Value } from "../onnx/graph-builder.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import type { ConfigReader } from "./config-reader.ts";
import { linear, WeightScope } from "./layers.ts";

export interface T5Config {
  vocabSize: number;
  dModel: number;
  /** Width of a head; heads × dKv need not be dModel. */
  dKv: number;
  dFf: number;
  numLayers: number;
  numHeads: number;
  relativeAttentionNumBuckets: number;
  relativeAttentionMaxDistance: number;
  layerNormEpsilon: number;
  feedForwardProj: "relu" | "gelu" | "gated-gelu" | "gated-silu";
}

/** @throws ModelInvalidError naming the field that Easel cannot honour. */
export function parseT5Config(config: ConfigReader): T5Config {
  return {
    vocabSize: config.int("vocab_size", { default: 32128 }),
    dModel: config.int("d_model", { default: 512 }),
    dKv: config.int("d_kv", { default: 64 }),
    dFf: config.int("d_ff", { default: 2048 }),
    numLayers: config.int("num_layers", { default: 6 }),
    numHeads: config.int("num_heads", { default: 8 }),
    relativeAttentionNumBuckets: config.int("relative_attention_num_buckets", { default: 32, min: 4 }),
    relativeAttentionMaxDistance: config.int("relative_attention_max_distance", { default: 128, min: 2 }),
    layerNormEpsilon: config.number("layer_norm_epsilon", 1e-6),
    feedForwardProj: config.oneOf("feed_forward_proj", ["relu", "gelu", "gated-gelu", "gated-silu"], "relu"),
  };
}

/**
 * The encoder's graph. Inputs: `input_ids` int64 [1, L], `relative_buckets` int64 [L, L] (`relativePositionBuckets`).
 * Output: `last_hidden_state` [1, L, d_model]. Padding is not masked: FLUX was trained so.
 *
 * @throws ModelInvalidError when a weight is missing or has another shape than the configuration asks for.
 */
export function t5Encoder(config: T5Config, weights: NetworkWeights): OnnxGraph {
  const g = new GraphBuilder("t5_encoder");
  const root = new WeightScope(g, weights);
  const w = root.at("encoder");
  const { dModel, numHeads: heads } = config;

  const ids = g.input("input_ids", "int64", [1, "L"]);
  const buckets = g.input("relative_buckets", "int64", ["L", "L"]);
  const table = root.has("shared.weight")
    ? root.weight("shared.weight", [config.vocabSize, dModel])
    : w.weight("embed_tokens.weight", [config.vocabSize, dModel]);
  // The first layer's position bias serves all of them.
  const biasTable = w.weight("block.0.layer.0.SelfAttention.relative_attention_bias.weight", [
    config.relativeAttentionNumBuckets,
    heads,
  ]);
  const perPair = g.transpose(g.gather(biasTable, buckets), [2, 0, 1]); // [heads, L, L]
  const bias = g.reshape(perPair, [1, heads, 0, -1], [1, heads, "L", "L"]);

  let x = g.gather(table, ids); // [1, L, d_model]
  for (let i = 0; i < config.numLayers; i++) x = block(w.at("block").at(i), x, bias, config);
  g.output("last_hidden_state", t5Norm(w.at("final_layer_norm"), x, config));
  return g.build();
}

function block(w: WeightScope, x: Value, bias: Value, config: T5Config): Value {
  const g = w.graph;
  const inner = config.numHeads * config.dKv;
  const noBias = { bias: false };

  const self = w.at("layer.0");
  const attn = self.at("SelfAttention");
  const xNorm = t5Norm(self.at("layer_norm"), x, config);
  const q = linear(attn.at("q"), xNorm, inner, noBias);
  const k = linear(attn.at("k"), xNorm, inner, noBias);
  const v = linear(attn.at("v"), xNorm, inner, noBias);
  const attended = g.attention(q, k, v, { heads: config.numHeads, scale: 1, bias });
  x = g.add(x, linear(attn.at("o"), attended, config.dModel, noBias));

  const ff = w.at("layer.1");
  const dense = ff.at("DenseReluDense");
  const ffNorm = t5Norm(ff.at("layer_norm"), x, config);
  return g.add(
    x,
    linear(dense.at("wo"), feedForward(dense, ffNorm, config), config.dModel, { bias: false, wide: true }),
  );
}

function feedForward(w: WeightScope, x: Value, config: T5Config): Value {
  const g = w.graph;
  const project = (name: string) => linear(w.at(name), x, config.dFf, { bias: false });
  switch (config.feedForwardProj) {
    case "relu":
      return g.relu(project("wi"));
    case "gelu":
      return g.gelu(project("wi"), "none");
    case "gated-gelu": // transformers reads this name as the tanh approximation
      return g.mul(g.gelu(project("wi_0"), "tanh"), project("wi_1"));
    case "gated-silu":
      return g.mul(g.silu(project("wi_0")), project("wi_1"));
  }
}

function t5Norm(w: WeightScope, x: Value, config: T5Config): Value {
  return w.graph.rmsNorm(x, w.weight("weight", [config.dModel]), config.layerNormEpsilon);
}

/**
 * Which learned bias each pair of positions gets, [L, L] by query and key: half of the buckets look back, half ahead; near
 * distances have one each, far ones share them logarithmically up to the maximum distance.
 */
export function relativePositionBuckets(length: number, config: T5Config): BigInt64Array {
  const half = Math.floor(config.relativeAttentionNumBuckets / 2);
  const exact = Math.floor(half / 2);
  const logRange = Math.log(config.relativeAttentionMaxDistance / exact);
  const buckets = new BigInt64Array(length * length);
  for (let query = 0; query < length; query++) {
    for (let key = 0; key < length; key++) {
      const distance = Math.abs(key - query);
      const far =
        exact +
        Math.trunc(
          Math.fround(Math.fround(Math.fround(Math.log(Math.fround(distance / exact))) / logRange) * (half - exact)),
        );
      const bucket = distance < exact ? distance : Math.min(far, half - 1);
      buckets[query * length + key] = BigInt(key > query ? bucket + half : bucket);
    }
  }
  return buckets;
}
