/**
 * The `config.json` that a network of a single file would have in the diffusers layout. Names and shapes tell most of it;
 * what they cannot tell is as FLUX.1 was published, or, for networks of other sizes, as a given description says.
 */
import { isDeepStrictEqual } from "node:util";
import { ModelInvalidError } from "../errors.ts";
import { type Component, titles } from "./single-file.ts";
import type { WeightSource } from "./weight-source.ts";

/** A `config.json`'s values. */
export type ConfigJson = Readonly<Record<string, unknown>>;

interface Derivation {
  /** What names and shapes tell. */
  told(source: WeightSource): Record<string, unknown>;
  /** Whether a network that tells this is one of FLUX.1's, so that `published` holds. */
  isPublished(told: ConfigJson): boolean;
  /** The rest, as published. */
  published: ConfigJson;
}

const derivations: Readonly<Record<Component, Derivation>> = {
  transformer: {
    told(source) {
      const [hidden, inChannels] = shapeOf(source, "x_embedder.weight", 2);
      const [headDim] = shapeOf(source, firstPresent(source, blockNorms), 1);
      const [, jointAttentionDim] = shapeOf(source, "context_embedder.weight", 2);
      const [, pooledProjectionDim] = shapeOf(source, "time_text_embed.text_embedder.linear_1.weight", 2);
      const [outChannels] = shapeOf(source, "proj_out.weight", 2);
      return {
        in_channels: inChannels,
        out_channels: outChannels,
        num_layers: countNumbered(source, /^transformer_blocks\.(\d{1,4})\./),
        num_single_layers: countNumbered(source, /^single_transformer_blocks\.(\d{1,4})\./),
        attention_head_dim: headDim,
        num_attention_heads: hidden! / headDim!,
        joint_attention_dim: jointAttentionDim,
        pooled_projection_dim: pooledProjectionDim,
        guidance_embeds: source.has("time_text_embed.guidance_embedder.linear_1.weight"),
      };
    },
    isPublished: (told) => told["attention_head_dim"] === 128,
    published: { _class_name: "FluxTransformer2DModel", patch_size: 1, axes_dims_rope: [16, 56, 56] },
  },
  vae: {
    told(source) {
      const [, latentChannels] = shapeOf(source, "decoder.conv_in.weight", 4);
      const levels = countNumbered(source, /^decoder\.up_blocks\.(\d{1,4})\./);
      const channels = Array.from({ length: levels }, (_, level) => {
        return shapeOf(source, `decoder.up_blocks.${level}.resnets.0.conv1.weight`, 4)[0]!;
      });
      return {
        latent_channels: latentChannels,
        block_out_channels: channels.toReversed(),
        // The decoder has one more in each of its blocks.
        layers_per_block: countNumbered(source, /^decoder\.up_blocks\.0\.resnets\.(\d{1,4})\./) - 1,
        use_quant_conv: source.has("quant_conv.weight"),
        use_post_quant_conv: source.has("post_quant_conv.weight"),
        mid_block_add_attention: source.has("decoder.mid_block.attentions.0.to_q.weight"),
      };
    },
    isPublished: (told) =>
      told["latent_channels"] === 16 && isDeepStrictEqual(told["block_out_channels"], [128, 256, 512, 512]),
    published: { _class_name: "AutoencoderKL", norm_num_groups: 32, scaling_factor: 0.3611, shift_factor: 0.1159 },
  },
  text_encoder: {
    told(source) {
      // transformers 5 saves the same model without this prefix.
      const root = source.has("text_model.final_layer_norm.weight") ? "text_model." : "";
      const [vocabSize, hiddenSize] = shapeOf(source, `${root}embeddings.token_embedding.weight`, 2);
      const [positions] = shapeOf(source, `${root}embeddings.position_embedding.weight`, 2);
      const [intermediateSize] = shapeOf(source, `${root}encoder.layers.0.mlp.fc1.weight`, 2);
      return {
        vocab_size: vocabSize,
        hidden_size: hiddenSize,
        max_position_embeddings: positions,
        intermediate_size: intermediateSize,
        num_hidden_layers: countNumbered(source, /^(?:text_model\.)?encoder\.layers\.(\d{1,4})\./),
      };
    },
    isPublished: (told) => told["hidden_size"] === 768,
    // In OpenAI's configuration the end token is 2 by mistake; readers take it for "the highest id", and so it works.
    published: { num_attention_heads: 12, hidden_act: "quick_gelu", layer_norm_eps: 1e-5, eos_token_id: 2 },
  },
  text_encoder_2: {
    told(source) {
      const embedding = firstPresent(source, ["shared.weight", "encoder.embed_tokens.weight"]);
      const [vocabSize, dModel] = shapeOf(source, embedding, 2);
      const first = "encoder.block.0.layer";
      const [buckets, heads] = shapeOf(source, `${first}.0.SelfAttention.relative_attention_bias.weight`, 2);
      const [innerWidth] = shapeOf(source, `${first}.0.SelfAttention.q.weight`, 2);
      const gate = `${first}.1.DenseReluDense.wi_0.weight`;
      const isGated = source.has(gate);
      const [dFf] = shapeOf(source, isGated ? gate : `${first}.1.DenseReluDense.wi.weight`, 2);
      return {
        vocab_size: vocabSize,
        d_model: dModel,
        num_heads: heads,
        d_kv: innerWidth! / heads!,
        d_ff: dFf,
        num_layers: countNumbered(source, /^encoder\.block\.(\d{1,4})\./),
        relative_attention_num_buckets: buckets,
        ...(isGated ? {} : { feed_forward_proj: "relu" }),
      };
    },
    isPublished: (told) => told["relative_attention_num_buckets"] === 32,
    published: { feed_forward_proj: "gated-gelu", layer_norm_epsilon: 1e-6, relative_attention_max_distance: 128 },
  },
};

/** A norm over one head, of either kind of block. */
const blockNorms = ["transformer_blocks.0.attn.norm_q.weight", "single_transformer_blocks.0.attn.norm_q.weight"];

/** What a network's names and shapes tell of its configuration. Throws `ModelInvalidError` when tensors are missing. */
export function toldConfig(component: Component, source: WeightSource): ConfigJson {
  return derivations[component].told(source);
}

/**
 * The network's whole configuration. `hints` are descriptions of networks that may be the same: the first that agrees with all
 * that the shapes tell is believed in the rest.
 *
 * @throws ModelInvalidError when tensors are missing, or the network has a size that neither FLUX.1 nor a hint has.
 */
export function deriveConfig(
  component: Component,
  source: WeightSource,
  hints: readonly ConfigJson[] = [],
): ConfigJson {
  const { told: derive, isPublished, published } = derivations[component];
  const told = derive(source);
  const hint = hints.find((candidate) => agrees(candidate, told));
  if (hint !== undefined) return { ...published, ...hint, ...told };
  if (isPublished(told)) return { ...published, ...told };
  throw new ModelInvalidError(
    `The ${titles[component]} in "${source.label}" has another size than FLUX.1's, and a single file does not tell all of ` +
      `its configuration; give with --tokenizers a model folder that has ${component}/config.json.`,
  );
}

/** The scheduler's `scheduler_config.json`: FLUX.1-dev's shifts the noise levels with the picture's size, schnell's does not. */
export function publishedScheduler(guidanceEmbeds: boolean): ConfigJson {
  return {
    _class_name: "FlowMatchEulerDiscreteScheduler",
    num_train_timesteps: 1000,
    shift: guidanceEmbeds ? 3 : 1,
    use_dynamic_shifting: guidanceEmbeds,
    base_shift: 0.5,
    max_shift: 1.15,
    base_image_seq_len: 256,
    max_image_seq_len: 4096,
  };
}

/** Whether a description says nothing else than the shapes do; what it leaves out has a default there. */
export function agrees(config: ConfigJson, told: ConfigJson): boolean {
  return Object.entries(told).every(([field, value]) => {
    const said = config[field] ?? undefined;
    return said === undefined || isDeepStrictEqual(said, value);
  });
}

function shapeOf(source: WeightSource, name: string, axes: number): readonly number[] {
  const shape = source.shapeOf(name);
  if (shape === undefined) throw new ModelInvalidError(`The weights in "${source.label}" lack the tensor "${name}".`);
  if (shape.length !== axes || shape.some((dim) => dim === 0)) {
    throw new ModelInvalidError(
      `The tensor "${name}" in "${source.label}" has the shape [${shape.join(", ")}], not one of ${axes} axes.`,
    );
  }
  return shape;
}

/** The first of `names` that is there; the first of all when none is, for a message to name. */
function firstPresent(source: WeightSource, names: readonly string[]): string {
  return names.find((name) => source.has(name)) ?? names[0]!;
}

/** One more than the highest number that `pattern` catches in a tensor's name. */
function countNumbered(source: WeightSource, pattern: RegExp): number {
  const numbers = source.names().map((name) => Number(pattern.exec(name)?.[1] ?? -1));
  return numbers.reduce((most, number) => Math.max(most, number), -1) + 1;
}
