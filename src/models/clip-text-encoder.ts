/**
 * CLIP's text encoder (Radford et al. 2021): a causal transformer whose state at the end-of-text token sums up the prompt.
 * Follows transformers' `CLIPTextModel`, whose weight names it reads.
 */
import { ModelInvalidError } from "../errors.ts";
import { GraphBuilder, type OnnxGraph, type Value } from "../onnx/graph-builder.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import type { ConfigReader } from "./config-reader.ts";
import { layerNorm, linear, WeightScope } from "./layers.ts";

export interface ClipTextConfig {
  vocabSize: number;
  hiddenSize: number;
  intermediateSize: number;
  numHiddenLayers: number;
  numAttentionHeads: number;
  maxPositionEmbeddings: number;
  layerNormEps: number;
  hiddenAct: "quick_gelu" | "gelu";
  eosTokenId: number;
}

/** @throws ModelInvalidError naming the field that Easel cannot honour. */
export function parseClipTextConfig(config: ConfigReader): ClipTextConfig {
  const parsed: ClipTextConfig = {
    vocabSize: config.int("vocab_size", { default: 49408 }),
    hiddenSize: config.int("hidden_size", { default: 512 }),
    intermediateSize: config.int("intermediate_size", { default: 2048 }),
    numHiddenLayers: config.int("num_hidden_layers", { default: 12 }),
    numAttentionHeads: config.int("num_attention_heads", { default: 8 }),
    maxPositionEmbeddings: config.int("max_position_embeddings", { default: 77 }),
    layerNormEps: config.number("layer_norm_eps", 1e-5),
    hiddenAct: config.oneOf("hidden_act", ["quick_gelu", "gelu"], "quick_gelu"),
    eosTokenId: config.int("eos_token_id", { default: 49407, min: 0 }),
  };
  if (parsed.hiddenSize % parsed.numAttentionHeads !== 0) {
    config.refuse("num_attention_heads", `a divisor of hidden_size, ${parsed.hiddenSize}`);
  }
  return parsed;
}

/**
 * The encoder's graph. Inputs: `input_ids` int64 [1, L], `position_ids` int64 [L]. Output: `last_hidden_state` [1, L, hidden], after the final norm.
 *
 * @throws ModelInvalidError when a weight is missing or has another shape than the configuration asks for.
 */
export function clipTextEncoder(config: ClipTextConfig, weights: NetworkWeights): OnnxGraph {
  const g = new GraphBuilder("clip_text_encoder");
  const root = new WeightScope(g, weights);
  // transformers 5 saves the same model without the "text_model." prefix.
  const w = root.has("text_model.final_layer_norm.weight") ? root.at("text_model") : root;
  const { hiddenSize: hidden } = config;

  const ids = g.input("input_ids", "int64", [1, "L"]);
  const positions = g.input("position_ids", "int64", ["L"]);
  const embeddings = w.at("embeddings");
  const tokenTable = embeddings.weight("token_embedding.weight", [config.vocabSize, hidden]);
  const positionTable = embeddings.weight("position_embedding.weight", [config.maxPositionEmbeddings, hidden]);
  let x = g.add(g.gather(tokenTable, ids), g.gather(positionTable, positions)); // [1, L, H]
  for (let i = 0; i < config.numHiddenLayers; i++) x = encoderLayer(w.at("encoder.layers").at(i), x, config);
  g.output("last_hidden_state", layerNorm(w.at("final_layer_norm"), x, config.layerNormEps));
  return g.build();
}

function encoderLayer(w: WeightScope, x: Value, config: ClipTextConfig): Value {
  const g = w.graph;
  const { hiddenSize: hidden, numAttentionHeads: heads, layerNormEps } = config;
  const attn = w.at("self_attn");
  const xNorm = layerNorm(w.at("layer_norm1"), x, layerNormEps);
  const q = linear(attn.at("q_proj"), xNorm, hidden);
  const k = linear(attn.at("k_proj"), xNorm, hidden);
  const v = linear(attn.at("v_proj"), xNorm, hidden);
  x = g.add(x, linear(attn.at("out_proj"), g.attention(q, k, v, { heads, causal: true }), hidden));

  const mlp = w.at("mlp");
  const inner = linear(mlp.at("fc1"), layerNorm(w.at("layer_norm2"), x, layerNormEps), config.intermediateSize);
  const activated = config.hiddenAct === "quick_gelu" ? g.quickGelu(inner) : g.gelu(inner, "none");
  return g.add(x, linear(mlp.at("fc2"), activated, hidden));
}

/**
 * The position whose state is the pooled embedding: the first end-of-text token. Configurations with `eos_token_id` 2
 * (OpenAI's, as published) predate that field's meaning: there it is the position of the highest id.
 */
export function pooledPosition(ids: ArrayLike<number>, config: ClipTextConfig): number {
  const list = Array.from(ids);
  if (config.eosTokenId === 2) return list.indexOf(list.reduce((a, b) => Math.max(a, b), 0));
  const position = list.indexOf(config.eosTokenId);
  if (position < 0) {
    throw new ModelInvalidError(
      `The model's text_encoder/config.json has "eos_token_id": ${config.eosTokenId}, which its tokenizer never produces.`,
    );
  }
  return position;
}
