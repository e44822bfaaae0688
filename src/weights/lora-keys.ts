/**
 * The names that LoRA files use for what they change, as the trainers write them: diffusers and PEFT
 * (`transformer.….lora_A.weight`), kohya (`lora_unet_….lora_down.weight`, dots flattened to underscores), ComfyUI's and
 * ai-toolkit's dotted Black Forest Labs names (`diffusion_model.double_blocks.…`), XLabs (`….processor.qkv_lora1.down.weight`).
 */
import { fluxRules, KeyMap, type KeyRule, type Target } from "./key-map.ts";

/** The networks that a LoRA may change, by diffusers' folder names. */
export type LoraComponent = "transformer" | "text_encoder" | "text_encoder_2";

/** What a tensor is to its layer: ΔW = scale · alpha / rank · up · down. */
export type LoraRole = "down" | "up" | "alpha";

/** Ends of tensor names. */
const roles: readonly { role: LoraRole; pattern: RegExp }[] = [
  { role: "down", pattern: /\.(?:lora_A(?:\.default)?|lora_down|(?:lora\.|lora_linear_layer\.)?down)\.weight$/ },
  { role: "up", pattern: /\.(?:lora_B(?:\.default)?|lora_up|(?:lora\.|lora_linear_layer\.)?up)\.weight$/ },
  { role: "alpha", pattern: /\.alpha$/ },
];

const xlabsRules: readonly KeyRule[] = [
  renamed("double_blocks.*.processor.qkv_lora1", targetsOf("double_blocks.*.img_attn.qkv")),
  renamed("double_blocks.*.processor.qkv_lora2", targetsOf("double_blocks.*.txt_attn.qkv")),
  renamed("double_blocks.*.processor.proj_lora1", targetsOf("double_blocks.*.img_attn.proj")),
  renamed("double_blocks.*.processor.proj_lora2", targetsOf("double_blocks.*.txt_attn.proj")),
  renamed("single_blocks.*.processor.proj_lora", targetsOf("single_blocks.*.linear2")),
  renamed(
    "single_blocks.*.processor.qkv_lora",
    ["to_q", "to_k", "to_v"].map((layer, first) => {
      return { name: `single_transformer_blocks.*.attn.${layer}`, rows: [{ first, count: 1, of: 3 }] };
    }),
  ),
];

const transformerRules: readonly KeyRule[] = [
  ...fluxRules,
  ...xlabsRules,
  ...fluxRules.flatMap(({ to }) => to.map(({ name }) => renamed(name, [{ name }]))),
];

const clipLayers = [
  ...["q_proj", "k_proj", "v_proj", "out_proj"].map((layer) => `encoder.layers.*.self_attn.${layer}`),
  ...["fc1", "fc2"].map((layer) => `encoder.layers.*.mlp.${layer}`),
];
const clipRules = clipLayers.flatMap((name) => [renamed(`text_model.${name}`, [{ name }]), renamed(name, [{ name }])]);

const t5Layers = [
  ...["q", "k", "v", "o"].map((layer) => `encoder.block.*.layer.0.SelfAttention.${layer}`),
  ...["wi", "wi_0", "wi_1", "wo"].map((layer) => `encoder.block.*.layer.1.DenseReluDense.${layer}`),
];
const t5Rules = t5Layers.map((name) => renamed(name, [{ name }]));

/** Beginnings of tensor names, the longer before what they begin with. */
const families: readonly { prefix: string; component: LoraComponent; keyMap: KeyMap }[] = [
  { prefix: "lora_unet_", component: "transformer", keyMap: new KeyMap(transformerRules.map(flattened)) },
  { prefix: "lora_transformer_", component: "transformer", keyMap: new KeyMap(transformerRules.map(flattened)) },
  { prefix: "lora_te1_", component: "text_encoder", keyMap: new KeyMap(clipRules.map(flattened)) },
  { prefix: "lora_te_", component: "text_encoder", keyMap: new KeyMap(clipRules.map(flattened)) },
  { prefix: "lora_te2_", component: "text_encoder_2", keyMap: new KeyMap(t5Rules.map(flattened)) },
  { prefix: "lora_te3_", component: "text_encoder_2", keyMap: new KeyMap(t5Rules.map(flattened)) },
  { prefix: "text_encoder_2.", component: "text_encoder_2", keyMap: new KeyMap(t5Rules) },
  { prefix: "text_encoder.", component: "text_encoder", keyMap: new KeyMap(clipRules) },
  ...[
    "base_model.model.transformer.",
    "base_model.model.",
    "model.diffusion_model.",
    "diffusion_model.",
    "transformer.",
    "",
  ].map((prefix) => ({ prefix, component: "transformer" as const, keyMap: new KeyMap(transformerRules) })),
];

/** What one tensor of a LoRA file is for. */
export interface LoraKey {
  /** The layer's name in the file, without the role. */
  layer: string;
  role: LoraRole;
}

/** undefined: the tensor belongs to another kind of adapter. */
export function parseLoraKey(name: string): LoraKey | undefined {
  for (const { role, pattern } of roles) {
    const match = pattern.exec(name);
    if (match !== null) return { layer: name.slice(0, match.index), role };
  }
  return undefined;
}

/** The modules of diffusers that a layer of a LoRA file changes; undefined: FLUX has no such layer. */
export function loraTargets(layer: string): { component: LoraComponent; targets: Target[] } | undefined {
  for (const { prefix, component, keyMap } of families) {
    if (!layer.startsWith(prefix)) continue;
    const targets = keyMap.module(layer.slice(prefix.length));
    if (targets.length > 0) return { component, targets };
  }
  return undefined;
}

function renamed(from: string, to: readonly Target[]): KeyRule {
  return { from, to };
}

function targetsOf(from: string): readonly Target[] {
  return fluxRules.find((rule) => rule.from === from)?.to ?? [];
}

function flattened({ from, to }: KeyRule): KeyRule {
  return { from: from.replaceAll(".", "_"), to };
}
