/**
 * The autoencoder between pixels and latents: a convolutional VAE (Rombach et al. 2022; FLUX.1's has 16 latent channels and
 * halves the picture three times). Follows diffusers' `AutoencoderKL`, whose weight names it reads.
 */
import { GraphBuilder, type OnnxGraph, type Value } from "../onnx/graph-builder.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import type { ConfigReader } from "./config-reader.ts";
import { conv2d, conv2dOfEnlarged, exactLinear, groupNorm, WeightScope } from "./layers.ts";

export interface AutoencoderConfig {
  latentChannels: number;
  /** Channels of each level, the finest first; every level but the last halves the picture. */
  blockOutChannels: readonly number[];
  layersPerBlock: number;
  normNumGroups: number;
  /** The latents that the transformer sees are (z − shiftFactor) · scalingFactor. */
  scalingFactor: number;
  shiftFactor: number;
  useQuantConv: boolean;
  usePostQuantConv: boolean;
  midBlockAddAttention: boolean;
}

const epsilon = 1e-6;

/** @throws ModelInvalidError naming the field that Easel cannot honour. */
export function parseAutoencoderConfig(config: ConfigReader): AutoencoderConfig {
  config.oneOf("_class_name", ["AutoencoderKL"], "AutoencoderKL");
  config.oneOf("in_channels", [3], 3);
  config.oneOf("out_channels", [3], 3);
  config.oneOf("act_fn", ["silu", "swish"], "silu");
  const parsed: AutoencoderConfig = {
    latentChannels: config.int("latent_channels", { default: 4 }),
    blockOutChannels: config.ints("block_out_channels", [64]),
    layersPerBlock: config.int("layers_per_block", { default: 1 }),
    normNumGroups: config.int("norm_num_groups", { default: 32 }),
    scalingFactor: config.number("scaling_factor", 0.18215),
    shiftFactor: config.number("shift_factor", 0),
    useQuantConv: config.bool("use_quant_conv", true),
    usePostQuantConv: config.bool("use_post_quant_conv", true),
    midBlockAddAttention: config.bool("mid_block_add_attention", true),
  };
  if (parsed.scalingFactor === 0) config.refuse("scaling_factor", "a number other than 0");
  if (parsed.blockOutChannels.some((channels) => channels % parsed.normNumGroups !== 0)) {
    config.refuse("norm_num_groups", "a divisor of every number in block_out_channels");
  }
  return parsed;
}

/** How many pixels one latent spans along a side. */
export function pixelsPerLatent(config: AutoencoderConfig): number {
  return 2 ** (config.blockOutChannels.length - 1);
}

/**
 * The decoder's graph: `latents` [1, latent channels, h, w] → `image` [1, 3, H, W] in −1…1 (not clipped).
 *
 * @throws ModelInvalidError when a weight is missing or has another shape than the configuration asks for.
 */
export function autoencoderDecoder(config: AutoencoderConfig, weights: NetworkWeights): OnnxGraph {
  const g = new GraphBuilder("autoencoder_decoder");
  const root = new WeightScope(g, weights);
  const w = root.at("decoder");
  const levels = config.blockOutChannels.toReversed();

  let x = g.input("latents", "float32", [1, config.latentChannels, "h", "w"]);
  if (config.usePostQuantConv) x = conv2d(root.at("post_quant_conv"), x, config.latentChannels, 1);
  x = conv2d(w.at("conv_in"), x, levels[0]!, 3);
  x = midBlock(w.at("mid_block"), x, config);
  for (const [i, channels] of levels.entries()) {
    const block = w.at("up_blocks").at(i);
    for (let j = 0; j <= config.layersPerBlock; j++) x = resnet(block.at("resnets").at(j), x, channels, config);
    if (i < levels.length - 1) x = conv2dOfEnlarged(block.at("upsamplers.0.conv"), x, channels);
  }
  x = g.silu(groupNorm(w.at("conv_norm_out"), x, config.normNumGroups, epsilon));
  g.output("image", conv2d(w.at("conv_out"), x, 3, 3));
  return g.build();
}

/**
 * The encoder's graph: `image` [1, 3, H, W] in −1…1 → `moments` [1, 2 · latent channels, h, w], the latents' mean and then
 * their log variance.
 *
 * @throws ModelInvalidError when a weight is missing or has another shape than the configuration asks for.
 */
export function autoencoderEncoder(config: AutoencoderConfig, weights: NetworkWeights): OnnxGraph {
  const g = new GraphBuilder("autoencoder_encoder");
  const root = new WeightScope(g, weights);
  const w = root.at("encoder");
  const levels = config.blockOutChannels;
  const moments = 2 * config.latentChannels;

  let x = conv2d(w.at("conv_in"), g.input("image", "float32", [1, 3, "H", "W"]), levels[0]!, 3);
  for (const [i, channels] of levels.entries()) {
    const block = w.at("down_blocks").at(i);
    for (let j = 0; j < config.layersPerBlock; j++) x = resnet(block.at("resnets").at(j), x, channels, config);
    if (i < levels.length - 1) {
      // The published models pad on the right and at the bottom only.
      x = conv2d(block.at("downsamplers.0.conv"), x, channels, 3, { stride: 2, pads: [0, 0, 1, 1] });
    }
  }
  x = midBlock(w.at("mid_block"), x, config);
  x = g.silu(groupNorm(w.at("conv_norm_out"), x, config.normNumGroups, epsilon));
  x = conv2d(w.at("conv_out"), x, moments, 3);
  if (config.useQuantConv) x = conv2d(root.at("quant_conv"), x, moments, 1);
  g.output("moments", x);
  return g.build();
}

function midBlock(w: WeightScope, x: Value, config: AutoencoderConfig): Value {
  const channels = x.dims[1] as number;
  x = resnet(w.at("resnets.0"), x, channels, config);
  if (config.midBlockAddAttention) x = selfAttention(w.at("attentions.0"), x, config);
  return resnet(w.at("resnets.1"), x, channels, config);
}

/** Two convolutions with a skip connection: x [B, in, H, W] → [B, out, H, W] */
function resnet(w: WeightScope, x: Value, outChannels: number, config: AutoencoderConfig): Value {
  const g = w.graph;
  let h = g.silu(groupNorm(w.at("norm1"), x, config.normNumGroups, epsilon));
  h = conv2d(w.at("conv1"), h, outChannels, 3);
  h = g.silu(groupNorm(w.at("norm2"), h, config.normNumGroups, epsilon));
  h = conv2d(w.at("conv2"), h, outChannels, 3);
  const skip = x.dims[1] === outChannels ? x : conv2d(w.at("conv_shortcut"), x, outChannels, 1);
  return g.add(skip, h);
}

/** Every pixel attends to every other, with one head: x [B, C, H, W] */
function selfAttention(w: WeightScope, x: Value, config: AutoencoderConfig): Value {
  const g = w.graph;
  const [batch, channels] = x.dims as [number, number];
  const normalized = groupNorm(w.at("group_norm"), x, config.normNumGroups, epsilon);
  const tokens = g.transpose(g.reshape(normalized, [0, 0, -1], [batch, channels, "pixels"]), [0, 2, 1]); // [B, HW, C]
  const q = exactLinear(w.at("to_q"), tokens, channels);
  const k = exactLinear(w.at("to_k"), tokens, channels);
  const v = exactLinear(w.at("to_v"), tokens, channels);
  const attended = exactLinear(w.at("to_out.0"), g.attention(q, k, v, { heads: 1 }), channels);
  return g.add(x, g.reshapeLike(g.transpose(attended, [0, 2, 1]), x));
}
