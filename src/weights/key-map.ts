/**
 * From the names that other tools give to FLUX's tensors to diffusers' names, which all of Easel uses. The tables follow
 * black-forest-labs/flux `model.py` and `autoencoder.py` on one side and diffusers' models on the other.
 *
 * A table's line speaks of modules, `*` standing for a number; a tensor's last part (`weight`, `bias`) is kept, except that
 * Black Forest Labs call an RMS norm's weight `scale`.
 */
import { WeightsInvalidError } from "../errors.ts";
import type { RowSpan } from "./tensor-location.ts";

/** Consecutive rows of a tensor, as shares of all its rows: `count` from share `first` on, of `of` equal ones. */
interface RowShare {
  first: number;
  count: number;
  of: number;
}

/** A module of diffusers, as a module of another naming holds it. */
export interface Target {
  name: string;
  /** Which of the source's rows it is, in order; absent: all. */
  rows?: readonly RowShare[];
  /** The source is a 1×1 convolution where diffusers has a linear layer. */
  fromConv?: true;
}

export interface KeyRule {
  from: string;
  to: readonly Target[];
}

function whole(from: string, to: string): KeyRule {
  return { from, to: [{ name: to }] };
}

/** Layers stored one above the other, with the shares of the rows that each has. */
function stacked(from: string, to: Readonly<Record<string, number>>): KeyRule {
  const of = Object.values(to).reduce((a, b) => a + b, 0);
  let first = 0;
  const targets: Target[] = [];
  for (const [name, count] of Object.entries(to)) {
    targets.push({ name, rows: [{ first, count, of }] });
    first += count;
  }
  return { from, to: targets };
}

function halvesSwapped(from: string, to: string): KeyRule {
  const rows = [
    { first: 1, count: 1, of: 2 },
    { first: 0, count: 1, of: 2 },
  ];
  return { from, to: [{ name: to, rows }] };
}

function convAsLinear(from: string, to: string): KeyRule {
  return { from, to: [{ name: to, fromConv: true }] };
}

/** FLUX.1's transformer, from Black Forest Labs' names. */
export const fluxRules: readonly KeyRule[] = [
  whole("img_in", "x_embedder"),
  whole("txt_in", "context_embedder"),
  ...[
    ["time_in", "timestep_embedder"],
    ["guidance_in", "guidance_embedder"],
    ["vector_in", "text_embedder"],
  ].flatMap(([from, to]) => [
    whole(`${from}.in_layer`, `time_text_embed.${to}.linear_1`),
    whole(`${from}.out_layer`, `time_text_embed.${to}.linear_2`),
  ]),
  stacked("double_blocks.*.img_attn.qkv", {
    "transformer_blocks.*.attn.to_q": 1,
    "transformer_blocks.*.attn.to_k": 1,
    "transformer_blocks.*.attn.to_v": 1,
  }),
  stacked("double_blocks.*.txt_attn.qkv", {
    "transformer_blocks.*.attn.add_q_proj": 1,
    "transformer_blocks.*.attn.add_k_proj": 1,
    "transformer_blocks.*.attn.add_v_proj": 1,
  }),
  whole("double_blocks.*.img_attn.norm.query_norm", "transformer_blocks.*.attn.norm_q"),
  whole("double_blocks.*.img_attn.norm.key_norm", "transformer_blocks.*.attn.norm_k"),
  whole("double_blocks.*.txt_attn.norm.query_norm", "transformer_blocks.*.attn.norm_added_q"),
  whole("double_blocks.*.txt_attn.norm.key_norm", "transformer_blocks.*.attn.norm_added_k"),
  whole("double_blocks.*.img_attn.proj", "transformer_blocks.*.attn.to_out.0"),
  whole("double_blocks.*.txt_attn.proj", "transformer_blocks.*.attn.to_add_out"),
  whole("double_blocks.*.img_mod.lin", "transformer_blocks.*.norm1.linear"),
  whole("double_blocks.*.txt_mod.lin", "transformer_blocks.*.norm1_context.linear"),
  whole("double_blocks.*.img_mlp.0", "transformer_blocks.*.ff.net.0.proj"),
  whole("double_blocks.*.img_mlp.2", "transformer_blocks.*.ff.net.2"),
  whole("double_blocks.*.txt_mlp.0", "transformer_blocks.*.ff_context.net.0.proj"),
  whole("double_blocks.*.txt_mlp.2", "transformer_blocks.*.ff_context.net.2"),
  // The MLP is four times as wide as the stream.
  stacked("single_blocks.*.linear1", {
    "single_transformer_blocks.*.attn.to_q": 1,
    "single_transformer_blocks.*.attn.to_k": 1,
    "single_transformer_blocks.*.attn.to_v": 1,
    "single_transformer_blocks.*.proj_mlp": 4,
  }),
  whole("single_blocks.*.linear2", "single_transformer_blocks.*.proj_out"),
  whole("single_blocks.*.norm.query_norm", "single_transformer_blocks.*.attn.norm_q"),
  whole("single_blocks.*.norm.key_norm", "single_transformer_blocks.*.attn.norm_k"),
  whole("single_blocks.*.modulation.lin", "single_transformer_blocks.*.norm.linear"),
  // Black Forest Labs store (shift, scale) here, diffusers (scale, shift).
  halvesSwapped("final_layer.adaLN_modulation.1", "norm_out.linear"),
  whole("final_layer.linear", "proj_out"),
];

/**
 * The autoencoder, from the names of Black Forest Labs and of latent diffusion before them, which count the decoder's levels
 * from the finest; diffusers counts them from the coarsest.
 */
export function autoencoderRules(levels: number): KeyRule[] {
  const rules = [whole("quant_conv", "quant_conv"), whole("post_quant_conv", "post_quant_conv")];
  for (const side of ["encoder", "decoder"]) {
    rules.push(
      whole(`${side}.conv_in`, `${side}.conv_in`),
      whole(`${side}.conv_out`, `${side}.conv_out`),
      whole(`${side}.norm_out`, `${side}.conv_norm_out`),
      ...resnet(`${side}.mid.block_1`, `${side}.mid_block.resnets.0`),
      ...resnet(`${side}.mid.block_2`, `${side}.mid_block.resnets.1`),
      whole(`${side}.mid.attn_1.norm`, `${side}.mid_block.attentions.0.group_norm`),
      convAsLinear(`${side}.mid.attn_1.q`, `${side}.mid_block.attentions.0.to_q`),
      convAsLinear(`${side}.mid.attn_1.k`, `${side}.mid_block.attentions.0.to_k`),
      convAsLinear(`${side}.mid.attn_1.v`, `${side}.mid_block.attentions.0.to_v`),
      convAsLinear(`${side}.mid.attn_1.proj_out`, `${side}.mid_block.attentions.0.to_out.0`),
    );
  }
  for (let level = 0; level < levels; level++) {
    const up = `decoder.up_blocks.${levels - 1 - level}`;
    rules.push(
      ...resnet(`encoder.down.${level}.block.*`, `encoder.down_blocks.${level}.resnets.*`),
      whole(`encoder.down.${level}.downsample.conv`, `encoder.down_blocks.${level}.downsamplers.0.conv`),
      ...resnet(`decoder.up.${level}.block.*`, `${up}.resnets.*`),
      whole(`decoder.up.${level}.upsample.conv`, `${up}.upsamplers.0.conv`),
    );
  }
  return rules;
}

function resnet(from: string, to: string): KeyRule[] {
  const same = ["norm1", "conv1", "norm2", "conv2"].map((layer) => whole(`${from}.${layer}`, `${to}.${layer}`));
  return [...same, whole(`${from}.nin_shortcut`, `${to}.conv_shortcut`)];
}

/** T5's encoder, from llama.cpp's names. */
export const t5GgufRules: readonly KeyRule[] = [
  whole("token_embd", "shared"),
  whole("enc.output_norm", "encoder.final_layer_norm"),
  whole("enc.blk.*.attn_norm", "encoder.block.*.layer.0.layer_norm"),
  whole("enc.blk.*.attn_q", "encoder.block.*.layer.0.SelfAttention.q"),
  whole("enc.blk.*.attn_k", "encoder.block.*.layer.0.SelfAttention.k"),
  whole("enc.blk.*.attn_v", "encoder.block.*.layer.0.SelfAttention.v"),
  whole("enc.blk.*.attn_o", "encoder.block.*.layer.0.SelfAttention.o"),
  whole("enc.blk.*.attn_rel_b", "encoder.block.*.layer.0.SelfAttention.relative_attention_bias"),
  whole("enc.blk.*.ffn_norm", "encoder.block.*.layer.1.layer_norm"),
  whole("enc.blk.*.ffn_gate", "encoder.block.*.layer.1.DenseReluDense.wi_0"),
  whole("enc.blk.*.ffn_up", "encoder.block.*.layer.1.DenseReluDense.wi_1"),
  whole("enc.blk.*.ffn_down", "encoder.block.*.layer.1.DenseReluDense.wo"),
];

/** Looks names up in a table. */
export class KeyMap {
  readonly #exact = new Map<string, readonly Target[]>();
  readonly #numbered: { pattern: RegExp; to: readonly Target[] }[] = [];

  constructor(rules: readonly KeyRule[]) {
    for (const { from, to } of rules) {
      if (!from.includes("*")) this.#exact.set(from, to);
      else this.#numbered.push({ pattern: new RegExp(`^${from.split("*").map(escape).join("(\\d+)")}$`), to });
    }
  }

  /** What a module is in diffusers: several modules where it is fused, none when the table does not know it. */
  module(name: string): Target[] {
    const exact = this.#exact.get(name);
    if (exact !== undefined) return [...exact];
    for (const { pattern, to } of this.#numbered) {
      const numbers = pattern.exec(name)?.slice(1);
      if (numbers === undefined) continue;
      return to.map((target) => {
        let next = 0;
        return { ...target, name: target.name.replaceAll("*", () => numbers[next++] ?? "") };
      });
    }
    return [];
  }

  /** As `module`, for a tensor's name. */
  tensor(name: string): Target[] {
    const dot = name.lastIndexOf(".");
    const last = name.slice(dot + 1);
    const suffix = last === "scale" ? "weight" : last;
    return this.module(name.slice(0, Math.max(dot, 0))).map((target) => ({
      ...target,
      name: `${target.name}.${suffix}`,
    }));
  }
}

function escape(text: string): string {
  return text.replaceAll(/[.]/g, "\\.");
}

/**
 * A target's rows in a source of `rowCount` rows.
 *
 * @throws WeightsInvalidError when they cannot be shared out evenly; `name` is what the message calls the source.
 */
export function rowSpans(target: Target, rowCount: number, name: string): RowSpan[] {
  return (target.rows ?? [{ first: 0, count: 1, of: 1 }]).map(({ first, count, of }) => {
    const share = rowCount / of;
    if (!Number.isInteger(share)) {
      throw new WeightsInvalidError(`"${name}" has ${rowCount} rows, which do not divide into ${of} equal parts.`);
    }
    return { first: first * share, count: count * share };
  });
}
