/**
 * The FLUX.1 transformer: a multimodal diffusion transformer that predicts the velocity of a rectified flow (Esser et al.
 * 2024, arXiv:2403.03206; Black Forest Labs 2024). Follows black-forest-labs/flux `model.py` and `layers.py`; weights by
 * the names of diffusers' `FluxTransformer2DModel`.
 *
 * H is the hidden width (heads × head dim), T the text tokens, I the image tokens, vec the conditioning vector of
 * time, guidance and pooled prompt that modulates every block.
 */
import { GraphBuilder, type OnnxGraph, type Value } from "../../onnx/graph-builder.ts";
import type { NetworkWeights } from "../../weights/network-weights.ts";
import { exactLinear, headRmsNorm, linear, WeightScope } from "../layers.ts";
import type { FluxConfig } from "./config.ts";

const epsilon = 1e-6;
const mlpRatio = 4;
/** Width of the sinusoidal embedding of a time or a guidance scale. */
export const timeEmbeddingDim = 256;

/** A rotary table: one row a token, text first. */
interface Rope {
  cos: Value; // [T+I, D/2]
  sin: Value;
}

/**
 * The transformer's graph. Inputs: `img` [1, I, in_channels], `txt` [1, T, joint_attention_dim], `pooled`
 * [1, pooled_projection_dim], `timestep` and, with guidance embedding, `guidance` [1, 256] (`timestepEmbedding`), `pe_cos`
 * and `pe_sin` [T+I, head dim / 2] (`ropeTable`). Output: `velocity` [1, I, in_channels].
 *
 * @throws ModelInvalidError when a weight is missing or has another shape than the configuration asks for.
 */
export function fluxTransformer(config: FluxConfig, weights: NetworkWeights): OnnxGraph {
  const g = new GraphBuilder("flux_transformer");
  const w = new WeightScope(g, weights);
  const heads = config.numAttentionHeads;
  const hidden = heads * config.attentionHeadDim; // H

  const imgIn = g.input("img", "float32", [1, "I", config.inChannels]);
  const txtIn = g.input("txt", "float32", [1, "T", config.jointAttentionDim]);
  const pooled = g.input("pooled", "float32", [1, config.pooledProjectionDim]);
  const timestep = g.input("timestep", "float32", [1, timeEmbeddingDim]);
  const guidance = config.guidanceEmbeds ? g.input("guidance", "float32", [1, timeEmbeddingDim]) : undefined;
  const pe: Rope = {
    cos: g.input("pe_cos", "float32", ["T+I", config.attentionHeadDim / 2]),
    sin: g.input("pe_sin", "float32", ["T+I", config.attentionHeadDim / 2]),
  };

  const embed = w.at("time_text_embed");
  let vec = mlpEmbedder(embed.at("timestep_embedder"), timestep, hidden); // [1, H]
  if (guidance !== undefined) vec = g.add(vec, mlpEmbedder(embed.at("guidance_embedder"), guidance, hidden));
  vec = g.add(vec, mlpEmbedder(embed.at("text_embedder"), pooled, hidden));
  const modulation = g.silu(vec);

  let img = exactLinear(w.at("x_embedder"), imgIn, hidden); // [1, I, H]
  let txt = exactLinear(w.at("context_embedder"), txtIn, hidden); // [1, T, H]
  for (let i = 0; i < config.numLayers; i++) {
    [img, txt] = doubleStreamBlock(w.at("transformer_blocks").at(i), img, txt, modulation, pe, heads);
  }

  let stream = g.concat([txt, img], 1); // [1, T+I, H]
  for (let i = 0; i < config.numSingleLayers; i++) {
    stream = singleStreamBlock(w.at("single_transformer_blocks").at(i), stream, modulation, pe, heads);
  }
  [, img] = g.splitSequence(stream, txt, "I");

  // The last layer's chunks are (scale, shift); every other modulation has shift first.
  const [scale, shift] = g.chunk(exactLinear(w.at("norm_out").at("linear"), modulation, 2 * hidden), 2);
  img = modulatedNorm(g, img, shift!, scale!);
  g.output("velocity", exactLinear(w.at("proj_out"), img, config.outChannels));
  return g.build();
}

/** Image and text keep weights of their own and meet in one attention. Returns [img, txt]. */
function doubleStreamBlock(
  w: WeightScope,
  img: Value,
  txt: Value,
  modulation: Value,
  pe: Rope,
  heads: number,
): [Value, Value] {
  const g = w.graph;
  const hidden = img.dims.at(-1) as number;
  const [imgShift, imgScale, imgGate, imgMlpShift, imgMlpScale, imgMlpGate] = modulations(
    w.at("norm1"),
    modulation,
    hidden,
    6,
  );
  const [txtShift, txtScale, txtGate, txtMlpShift, txtMlpScale, txtMlpGate] = modulations(
    w.at("norm1_context"),
    modulation,
    hidden,
    6,
  );

  // Joint attention, text first.
  const attn = w.at("attn");
  const imgNorm = modulatedNorm(g, img, imgShift!, imgScale!);
  const txtNorm = modulatedNorm(g, txt, txtShift!, txtScale!);
  const q = g.concat(
    [
      headRmsNorm(attn.at("norm_added_q"), linear(attn.at("add_q_proj"), txtNorm, hidden), heads, epsilon),
      headRmsNorm(attn.at("norm_q"), linear(attn.at("to_q"), imgNorm, hidden), heads, epsilon),
    ],
    1,
  ); // [1, T+I, H]
  const k = g.concat(
    [
      headRmsNorm(attn.at("norm_added_k"), linear(attn.at("add_k_proj"), txtNorm, hidden), heads, epsilon),
      headRmsNorm(attn.at("norm_k"), linear(attn.at("to_k"), imgNorm, hidden), heads, epsilon),
    ],
    1,
  );
  const v = g.concat([linear(attn.at("add_v_proj"), txtNorm, hidden), linear(attn.at("to_v"), imgNorm, hidden)], 1);
  const [txtAttn, imgAttn] = g.splitSequence(ropeAttention(g, q, k, v, pe, heads), txt, "I");

  img = g.add(img, g.mul(imgGate!, linear(attn.at("to_out").at(0), imgAttn, hidden)));
  txt = g.add(txt, g.mul(txtGate!, linear(attn.at("to_add_out"), txtAttn, hidden)));

  const imgMlpIn = modulatedNorm(g, img, imgMlpShift!, imgMlpScale!);
  const txtMlpIn = modulatedNorm(g, txt, txtMlpShift!, txtMlpScale!);
  img = g.add(img, g.mul(imgMlpGate!, feedForward(w.at("ff"), imgMlpIn)));
  txt = g.add(txt, g.mul(txtMlpGate!, feedForward(w.at("ff_context"), txtMlpIn)));
  return [img, txt];
}

/** Attention and MLP side by side over the joined stream [1, T+I, H] (Dehghani et al. 2023, ViT-22B). */
function singleStreamBlock(w: WeightScope, x: Value, modulation: Value, pe: Rope, heads: number): Value {
  const g = w.graph;
  const hidden = x.dims.at(-1) as number;
  const [shift, scale, gate] = modulations(w.at("norm"), modulation, hidden, 3);
  const xNorm = modulatedNorm(g, x, shift!, scale!);

  const attn = w.at("attn");
  const q = headRmsNorm(attn.at("norm_q"), linear(attn.at("to_q"), xNorm, hidden), heads, epsilon);
  const k = headRmsNorm(attn.at("norm_k"), linear(attn.at("to_k"), xNorm, hidden), heads, epsilon);
  const v = linear(attn.at("to_v"), xNorm, hidden);
  const attention = ropeAttention(g, q, k, v, pe, heads);
  const mlp = g.gelu(linear(w.at("proj_mlp"), xNorm, mlpRatio * hidden), "tanh"); // [1, T+I, 4H]

  return g.add(x, g.mul(gate!, linear(w.at("proj_out"), g.concat([attention, mlp], 2), hidden)));
}

function ropeAttention(g: GraphBuilder, q: Value, k: Value, v: Value, pe: Rope, heads: number): Value {
  const rotatedQ = g.rotaryEmbedding(q, pe.cos, pe.sin, heads);
  const rotatedK = g.rotaryEmbedding(k, pe.cos, pe.sin, heads);
  return g.attention(rotatedQ, rotatedK, v, { heads });
}

/** Linear, SiLU, linear: [1, in] → [1, H] */
function mlpEmbedder(w: WeightScope, x: Value, hidden: number): Value {
  return exactLinear(w.at("linear_2"), w.graph.silu(exactLinear(w.at("linear_1"), x, hidden)), hidden);
}

function feedForward(w: WeightScope, x: Value): Value {
  const hidden = x.dims.at(-1) as number;
  const inner = w.graph.gelu(linear(w.at("net.0.proj"), x, mlpRatio * hidden), "tanh");
  return linear(w.at("net.2"), inner, hidden);
}

/** Adaptive layer norm's vectors, each [1, H] (Peebles & Xie 2023, DiT). */
function modulations(w: WeightScope, modulation: Value, hidden: number, count: number): Value[] {
  return w.graph.chunk(linear(w.at("linear"), modulation, count * hidden), count);
}

/** (1 + scale) · norm(x) + shift, in one pass: the vectors [1, H] take the place of the norm's own weight and bias. */
function modulatedNorm(g: GraphBuilder, x: Value, shift: Value, scale: Value): Value {
  const hidden = x.dims.at(-1) as number;
  const vector = (value: Value) => g.reshape(value, [hidden], [hidden]);
  return g.layerNorm(x, epsilon, vector(g.add(scale, 1)), vector(shift));
}

/**
 * The sinusoidal embedding [256] of a sigma in [0, 1] or of a guidance scale, cosines first; both are multiplied by 1000
 * here and nowhere else. Rounded to float32 where diffusers' `get_timestep_embedding` rounds, since the angles are large.
 */
export function timestepEmbedding(value: number): Float32Array {
  const half = timeEmbeddingDim / 2;
  const scaled = Math.fround(Math.fround(value) * 1000);
  const embedding = new Float32Array(timeEmbeddingDim);
  for (let i = 0; i < half; i++) {
    const frequency = Math.fround(Math.exp(Math.fround(Math.fround(-Math.log(10000) * i) / half)));
    const angle = Math.fround(scaled * frequency);
    embedding[i] = Math.cos(angle);
    embedding[half + i] = Math.sin(angle);
  }
  return embedding;
}

/**
 * Cosines and sines [L, D/2] for positions `ids` [L, 3], row by row: each axis turns its own share of a head's dimensions
 * with frequencies 10000^(−2i/d). Computed in float64, as diffusers does, and rounded once.
 */
export function ropeTable(ids: Float32Array, axesDims: readonly number[]): { cos: Float32Array; sin: Float32Array } {
  const axes = axesDims.length;
  const length = ids.length / axes;
  const width = axesDims.reduce((a, b) => a + b, 0) / 2; // D/2
  const cos = new Float32Array(length * width);
  const sin = new Float32Array(length * width);
  for (let row = 0; row < length; row++) {
    let column = row * width;
    for (const [axis, dim] of axesDims.entries()) {
      const position = ids[row * axes + axis]!;
      for (let i = 0; i < dim; i += 2, column++) {
        const angle = position / 10000 ** (i / dim);
        cos[column] = Math.cos(angle);
        sin[column] = Math.sin(angle);
      }
    }
  }
  return { cos, sin };
}
