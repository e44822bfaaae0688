/** The configuration of a FLUX transformer, as `transformer/config.json` has it in the diffusers layout. */
import type { ConfigReader } from "../config-reader.ts";

export interface FluxConfig {
  /** Channels of a packed latent token: four times the latent's. */
  inChannels: number;
  outChannels: number;
  /** Double-stream blocks, with separate weights for image and text. */
  numLayers: number;
  numSingleLayers: number;
  attentionHeadDim: number;
  numAttentionHeads: number;
  /** Width of the text encoder's token embeddings. */
  jointAttentionDim: number;
  /** Width of the pooled prompt embedding. */
  pooledProjectionDim: number;
  /** Whether the guidance scale is an input, as in FLUX.1-dev; FLUX.1-schnell has none. */
  guidanceEmbeds: boolean;
  /** How many of a head's dimensions rotate with each position axis: (index, row, column). */
  axesDimsRope: readonly number[];
}

/** @throws ModelInvalidError naming the field that Easel cannot honour. */
export function parseFluxConfig(config: ConfigReader): FluxConfig {
  config.oneOf("_class_name", ["FluxTransformer2DModel"], "FluxTransformer2DModel");
  config.oneOf("patch_size", [1], 1);
  const inChannels = config.int("in_channels", { default: 64 });
  const parsed: FluxConfig = {
    inChannels,
    outChannels: config.int("out_channels", { default: inChannels }),
    numLayers: config.int("num_layers", { default: 19, min: 0 }),
    numSingleLayers: config.int("num_single_layers", { default: 38, min: 0 }),
    attentionHeadDim: config.int("attention_head_dim", { default: 128 }),
    numAttentionHeads: config.int("num_attention_heads", { default: 24 }),
    jointAttentionDim: config.int("joint_attention_dim", { default: 4096 }),
    pooledProjectionDim: config.int("pooled_projection_dim", { default: 768 }),
    guidanceEmbeds: config.bool("guidance_embeds", false),
    axesDimsRope: config.ints("axes_dims_rope", [16, 56, 56]),
  };
  if (inChannels % 4 !== 0) config.refuse("in_channels", "a multiple of 4 (latents are packed two by two)");
  if (parsed.outChannels !== inChannels) config.refuse("out_channels", `the same as in_channels, ${inChannels}`);
  const { axesDimsRope, attentionHeadDim } = parsed;
  if (axesDimsRope.length !== 3 || axesDimsRope.some((dim) => dim % 2 !== 0)) {
    config.refuse("axes_dims_rope", "three even numbers");
  }
  if (axesDimsRope.reduce((a, b) => a + b, 0) !== attentionHeadDim) {
    config.refuse("axes_dims_rope", `three numbers that add up to attention_head_dim, ${attentionHeadDim}`);
  }
  return parsed;
}
