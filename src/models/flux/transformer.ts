/**
 * The FLUX.1 transformer: a multimodal diffusion transformer that predicts the velocity of a rectified flow (Esser et al.
 * 2024, arXiv:2403.03206; Black Forest Labs 2024). Follows black-forest-labs/flux `model.py` and `layers.py`; weights by
 * the names of diffusers' `FluxTransformer2DModel`.
 *
 * H is the hidden width (heads × head dim), T the text tokens, I the image tokens, vec the conditioning vector of
 * time, guidance and pooled prompt that modulates every block.
 *
 * The layers that are `wide` are those whose results leave half precision's range: diffusers cuts them off at ±65504 there.
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
 * The transformer's graph. Inputs: `img` [B, I, in_channels], `txt` [B, T, joint_attention_dim], `pooled`
 * [1, pooled_projection_dim], `timestep` and, with guidance embedding, `guidance` [1, 256] (`timestepEmbedding`), `pe_cos`
 * and `pe_sin` [T+I, head dim / 2] (`ropeTable`). Output: `velocity` [B, I, in_channels]. The B pictures of a batch share
 * all but the former two.
 *
 * @throws ModelInvalidError when a weight is missing or has another shape than the configuration asks for.
 */
export function fluxTransformer(config: FluxConfig, weights: NetworkWeights): OnnxGraph {
  const part = new Part("flux_transformer", config, weights);
  const pe = part.rope();
  const hidden = part.blocks(part.embedTokens(), pe, 0);
  part.graph.output("velocity", part.velocity(hidden));
  return part.graph.build();
}

/**
 * The transformer in three parts, for who leaves the middle one out where it would change little: the tokens' embedding with
 * the first block, all other blocks, and the projection. `first` has the transformer's inputs and gives `img_embedded`, `img_first` [1, I, H] and
 * `txt_first` [1, T, H]; `others` takes the latter two, without `img` and `txt`, and gives `img_last`; `projection` takes
 * `img_last` and what the modulation needs, and gives `velocity`.
 *
 * @throws as `fluxTransformer`
 */
export const fluxTransformerParts = {
  first(config: FluxConfig, weights: NetworkWeights): OnnxGraph {
    const part = new Part("flux_first_block", config, weights);
    const pe = part.rope();
    const embedded = part.embedTokens();
    const [img, txt] = part.doubleBlock(0, embedded, pe);
    part.graph.output("img_embedded", embedded[0]);
    part.graph.output("img_first", img);
    part.graph.output("txt_first", txt);
    return part.graph.build();
  },

  others(config: FluxConfig, weights: NetworkWeights): OnnxGraph {
    const part = new Part("flux_other_blocks", config, weights);
    const pe = part.rope();
    const img = part.graph.input("img_first", "float32", [1, "I", part.hidden]);
    const txt = part.graph.input("txt_first", "float32", [1, "T", part.hidden]);
    part.graph.output("img_last", part.blocks([img, txt], pe, 1));
    return part.graph.build();
  },

  projection(config: FluxConfig, weights: NetworkWeights): OnnxGraph {
    const part = new Part("flux_projection", config, weights);
    const img = part.graph.input("img_last", "float32", [1, "I", part.hidden]);
    part.graph.output("velocity", part.velocity(img));
    return part.graph.build();
  },
};

/** A graph over some of the transformer, and the pieces that one is written from. Image tokens come before text tokens. */
class Part {
  readonly graph: GraphBuilder;
  /** Width of a token: H. */
  readonly hidden: number;
  readonly #config: FluxConfig;
  readonly #w: WeightScope;
  /** SiLU of vec [1, H]: what every modulation is computed from. */
  readonly #modulation: Value;

  constructor(name: string, config: FluxConfig, weights: NetworkWeights) {
    this.graph = new GraphBuilder(name);
    this.hidden = config.numAttentionHeads * config.attentionHeadDim;
    this.#config = config;
    this.#w = new WeightScope(this.graph, weights);
    this.#modulation = this.graph.silu(this.#vec());
  }

  #vec(): Value {
    const g = this.graph;
    const pooled = g.input("pooled", "float32", [1, this.#config.pooledProjectionDim]);
    const timestep = g.input("timestep", "float32", [1, timeEmbeddingDim]);
    const guidance = this.#config.guidanceEmbeds ? g.input("guidance", "float32", [1, timeEmbeddingDim]) : undefined;
    const embed = this.#w.at("time_text_embed");
    let vec = mlpEmbedder(embed.at("timestep_embedder"), timestep, this.hidden); // [1, H]
    if (guidance !== undefined) vec = g.add(vec, mlpEmbedder(embed.at("guidance_embedder"), guidance, this.hidden));
    return g.add(vec, mlpEmbedder(embed.at("text_embedder"), pooled, this.hidden));
  }

  rope(): Rope {
    const dims = ["T+I", this.#config.attentionHeadDim / 2];
    return { cos: this.graph.input("pe_cos", "float32", dims), sin: this.graph.input("pe_sin", "float32", dims) };
  }

  embedTokens(): [img: Value, txt: Value] {
    const { inChannels, jointAttentionDim } = this.#config;
    const img = this.graph.input("img", "float32", ["B", "I", inChannels]);
    const txt = this.graph.input("txt", "float32", ["B", "T", jointAttentionDim]);
    return [
      exactLinear(this.#w.at("x_embedder"), img, this.hidden), // [B, I, H]
      exactLinear(this.#w.at("context_embedder"), txt, this.hidden), // [B, T, H]
    ];
  }

  doubleBlock(index: number, [img, txt]: [img: Value, txt: Value], pe: Rope): [img: Value, txt: Value] {
    const scope = this.#w.at("transformer_blocks").at(index);
    return doubleStreamBlock(scope, img, txt, this.#modulation, pe, this.#config.numAttentionHeads);
  }

  /** All blocks from double block `first` on: the image tokens [1, I, H] that come out. */
  blocks(tokens: [img: Value, txt: Value], pe: Rope, first: number): Value {
    const { numLayers, numSingleLayers, numAttentionHeads } = this.#config;
    for (let i = first; i < numLayers; i++) tokens = this.doubleBlock(i, tokens, pe);
    const [img, txt] = tokens;
    let stream = this.graph.concat([txt, img], 1); // [1, T+I, H]
    for (let i = 0; i < numSingleLayers; i++) {
      const scope = this.#w.at("single_transformer_blocks").at(i);
      stream = singleStreamBlock(scope, stream, this.#modulation, pe, numAttentionHeads);
    }
    return this.graph.splitSequence(stream, txt, "I")[1];
  }

  velocity(img: Value): Value {
    const g = this.graph;
    // The last layer's chunks are (scale, shift); every other modulation has shift first.
    const vectors = exactLinear(this.#w.at("norm_out").at("linear"), this.#modulation, 2 * this.hidden);
    const [scale, shift] = g.chunk(vectors, 2);
    return exactLinear(this.#w.at("proj_out"), modulatedNorm(g, img, shift!, scale!), this.#config.outChannels);
  }
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
  txt = g.add(txt, g.mul(txtMlpGate!, feedForward(w.at("ff_context"), txtMlpIn, { wide: true })));
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

  const both = g.concat([attention, mlp], 2); // [1, T+I, 5H]
  return g.add(x, g.mul(gate!, linear(w.at("proj_out"), both, hidden, { wide: true })));
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

function feedForward(w: WeightScope, x: Value, options: { wide?: boolean } = {}): Value {
  const hidden = x.dims.at(-1) as number;
  const inner = w.graph.gelu(linear(w.at("net.0.proj"), x, mlpRatio * hidden), "tanh");
  return linear(w.at("net.2"), inner, hidden, options);
}

/** Adaptive layer norm's vectors, each [1, H] (Peebles & Xie 2023, DiT). */
function modulations(w: WeightScope, modulation: Value, hidden: number, count: number): Value[] {
  return w.graph.chunk(w.graph.float(linear(w.at("linear"), modulation, count * hidden)), count);
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
