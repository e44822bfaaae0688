import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { float32, type TensorToWrite, writeSafetensors, zeros } from "../../tests/support/weight-files.ts";
import { WeightsInvalidError } from "../errors.ts";
import { type LoraComponent, loraDelta, openLora } from "./lora.ts";
import { readSafetensorsHeader } from "./safetensors.ts";
import { readTensor } from "./tensor-data.ts";
import { WeightSource } from "./weight-source.ts";

const fixtures = join(import.meta.dirname, "../../tests/fixtures");
const formats = join(fixtures, "formats");
const devFolder = (component: LoraComponent) => WeightSource.openFolder(join(fixtures, "flux-dev-tiny", component));
const dir = mkdtempSync(join(tmpdir(), "easel-lora-"));
afterAll(() => rmSync(dir, { recursive: true }));

const path = join(dir, "made.safetensors");
function opened(tensors: Record<string, TensorToWrite>, metadata?: Record<string, string>) {
  writeSafetensors(path, tensors, metadata);
  return openLora(path);
}

/** up [2, 1] · down [1, 2] */
const up = float32([2, 1], [1, 2]);
const down = float32([1, 2], [10, 20]);
const product = [10, 20, 20, 40];

/** The factors of one layer as kohya and as PEFT name them. */
const kohya = (layer: string) => ({ [`${layer}.lora_up.weight`]: up, [`${layer}.lora_down.weight`]: down });
const peft = (layer: string) => ({ [`${layer}.lora_B.weight`]: up, [`${layer}.lora_A.weight`]: down });

function deltaOf(tensors: Record<string, TensorToWrite>, component: LoraComponent, name: string): number[] | undefined {
  const delta = loraDelta([{ lora: opened(tensors), scale: 1 }], component, `${name}.weight`, [2, 2]);
  return delta && [...delta];
}

describe("a LoRA", () => {
  // 1e-6 of the largest weight: float32 products summed in another order.
  it.each(["diffusers", "kohya", "xlabs"])(
    "in %s' naming changes the weights that diffusers changes, as much",
    (naming) => {
      const lora = openLora(join(formats, `lora-${naming}.safetensors`));
      const changed: string[] = [];
      for (const [key, expected] of readSafetensorsHeader(join(formats, `lora-${naming}.fused.safetensors`))) {
        const [component, recordedName] = key.split("/") as [LoraComponent, string];
        const weights = devFolder(component);
        const name = weights.has(recordedName) ? recordedName : `text_model.${recordedName}`;
        changed.push(`${component}/${recordedName}`);
        const before = readTensor(weights.locate(name, expected.shape));
        const delta = loraDelta([{ lora, scale: 0.7 }], component, name, expected.shape)!;
        const fused = readTensor(expected);
        const largest = fused.reduce((max, value) => Math.max(max, Math.abs(value)), 0);
        const error = fused.reduce((max, value, i) => Math.max(max, Math.abs(before[i]! + delta[i]! - value)), 0);
        expect(error / largest, key).toBeLessThan(1e-6);
      }
      const components = ["transformer", "text_encoder", "text_encoder_2"] as const;
      const own = components.flatMap((component) => lora.tensorNames(component).map((name) => `${component}/${name}`));
      expect(own.sort()).toEqual(changed.sort());
      for (const component of components) lora.requireFit(component, devFolder(component));
    },
  );

  it.each<[string, Record<string, TensorToWrite>, LoraComponent, string]>([
    [
      "kohya, CLIP",
      kohya("lora_te1_text_model_encoder_layers_11_self_attn_q_proj"),
      "text_encoder",
      "text_model.encoder.layers.11.self_attn.q_proj",
    ],
    [
      "kohya, T5",
      kohya("lora_te3_encoder_block_3_layer_0_SelfAttention_q"),
      "text_encoder_2",
      "encoder.block.3.layer.0.SelfAttention.q",
    ],
    [
      "kohya, outside the blocks",
      kohya("lora_unet_guidance_in_out_layer"),
      "transformer",
      "time_text_embed.guidance_embedder.linear_2",
    ],
    [
      "kohya, diffusers' layers",
      kohya("lora_transformer_single_transformer_blocks_7_attn_to_k"),
      "transformer",
      "single_transformer_blocks.7.attn.to_k",
    ],
    [
      "ComfyUI",
      kohya("diffusion_model.double_blocks.18.img_attn.proj"),
      "transformer",
      "transformer_blocks.18.attn.to_out.0",
    ],
    [
      "ai-toolkit",
      peft("diffusion_model.single_blocks.37.linear2"),
      "transformer",
      "single_transformer_blocks.37.proj_out",
    ],
    ["PEFT", peft("base_model.model.proj_out"), "transformer", "proj_out"],
    ["bare names", peft("double_blocks.0.txt_mlp.2"), "transformer", "transformer_blocks.0.ff_context.net.2"],
  ])("is understood as trainers name it: %s", (_trainer, tensors, component, name) => {
    expect(deltaOf(tensors, component, name)).toEqual(product);
  });

  it("of a layer that diffusers stores the other way round changes the rows where they are", () => {
    expect(deltaOf(kohya("lora_unet_final_layer_adaLN_modulation_1"), "transformer", "norm_out.linear")).toEqual([
      20, 40, 10, 20,
    ]);
  });

  it("is scaled by alpha over its rank, and by what is asked for", () => {
    const layer = "lora_unet_img_in";
    const rank2 = {
      [`${layer}.lora_up.weight`]: float32([2, 2], [1, 0, 0, 1]),
      [`${layer}.lora_down.weight`]: float32([2, 2], [1, 2, 3, 4]),
      [`${layer}.alpha`]: float32([], [1]),
    };
    expect(deltaOf(rank2, "transformer", "x_embedder")).toEqual([0.5, 1, 1.5, 2]);
    const lora = opened(rank2);
    const delta = (scale: number) => [...loraDelta([{ lora, scale }], "transformer", "x_embedder.weight", [2, 2])!];
    expect(delta(-2)).toEqual([-1, -2, -3, -4]);
    expect(delta(0)).toEqual([0, 0, 0, 0].map((zero) => expect.closeTo(zero)));
  });

  it("may keep its alphas in the file's description, per network and per layer", () => {
    const tensors = { ...peft("transformer.x_embedder"), ...peft("transformer.proj_out") };
    const settings = { "transformer.lora_alpha": 3, "transformer.alpha_pattern": { proj_out: 5 }, "transformer.r": 1 };
    const lora = opened(tensors, { lora_adapter_metadata: JSON.stringify(settings) });
    expect(lora.factors("transformer", "x_embedder.weight")[0]?.scale).toBe(3);
    expect(lora.factors("transformer", "proj_out.weight")[0]?.scale).toBe(5);
    const hostile = {
      lora_adapter_metadata: '{"transformer.lora_alpha": "x", "transformer.alpha_pattern": ["((a+)+)+$"]}',
    };
    expect(opened(tensors, hostile).factors("transformer", "x_embedder.weight")[0]?.scale).toBe(1);
    expect(() => opened(tensors, { lora_adapter_metadata: "{" })).toThrow(WeightsInvalidError);
  });

  it("adds to others", () => {
    const first = openLora(join(formats, "lora-kohya.safetensors"));
    const name = "transformer_blocks.0.attn.to_k.weight";
    const delta = (...scales: number[]) =>
      loraDelta(
        scales.map((scale) => ({ lora: first, scale })),
        "transformer",
        name,
        [32, 32],
      )!;
    const both = delta(0.5, 0.25);
    expect(both.every((value, i) => Math.abs(value - delta(0.75)[i]!) < 1e-6)).toBe(true);
    expect(loraDelta([{ lora: first, scale: 1 }], "transformer", "proj_out.weight", [64, 32])).toBeUndefined();
    expect(loraDelta([], "transformer", name, [32, 32])).toBeUndefined();
  });

  const layer = "lora_unet_img_in";
  const refusals: [what: string, tensors: Record<string, TensorToWrite>, message: RegExp][] = [
    [
      "Stable Diffusion's layers",
      {
        ...kohya("lora_unet_down_blocks_0_attentions_0_proj_in"),
        ...kohya("lora_unet_mid_block_attentions_0_proj_in"),
      },
      /is not a LoRA for FLUX\.1: it changes "lora_unet_down_blocks_0_attentions_0_proj_in" and 1 more, which FLUX\.1 does not have/,
    ],
    [
      "DoRA",
      { ...kohya(layer), [`${layer}.dora_scale`]: up },
      /"lora_unet_img_in\.dora_scale" is no part of a plain LoRA/,
    ],
    ["LoKr", { [`${layer}.lokr_w1`]: up }, /no part of a plain LoRA/],
    ["whole weights", { "img_in.weight": up }, /no part of a plain LoRA/],
    ["one factor alone", { [`${layer}.lora_up.weight`]: up }, /only one of the two factors/],
    [
      "factors of two ranks",
      { ...kohya(layer), [`${layer}.lora_down.weight`]: float32([2, 1], [1, 2]) },
      /have the shapes \[2, 1\] and \[2, 1\]/,
    ],
    [
      "factors of rank 0",
      { [`${layer}.lora_up.weight`]: float32([2, 0], []), [`${layer}.lora_down.weight`]: float32([0, 2], []) },
      /shapes/,
    ],
    ["a convolution", { ...kohya(layer), [`${layer}.lora_down.weight`]: float32([1, 2, 1, 1], [1, 2]) }, /shapes/],
    [
      "an alpha that is not a number",
      { ...kohya(layer), [`${layer}.alpha`]: float32([], [Number.NaN]) },
      /alpha" is not a number/,
    ],
    ["several alphas", { ...kohya(layer), [`${layer}.alpha`]: float32([2], [1, 2]) }, /alpha" is not a number/],
    ["integer alphas", { ...kohya(layer), [`${layer}.alpha`]: zeros("I64", [], 8) }, /holds integers/],
    ["two spellings of one layer", { ...kohya("img_in"), ...peft("img_in") }, /twice under two spellings/],
    [
      "fused rows that do not divide",
      kohya("lora_unet_double_blocks_0_img_attn_qkv"),
      /2 rows, which do not divide into 3/,
    ],
    ["nothing", {}, /holds no low-rank factors/],
  ];
  it.each(refusals)("is refused with %s", (_what, tensors, message) => {
    expect(() => opened(tensors)).toThrow(WeightsInvalidError);
    expect(() => opened(tensors)).toThrow(message);
  });

  it("is refused when it is not safetensors", () => {
    writeFileSync(path, "a pickle, perhaps");
    expect(() => openLora(path)).toThrow(WeightsInvalidError);
  });

  it("for another model is refused by what does not fit", () => {
    const weights = devFolder("transformer");
    const missing = opened(kohya("lora_unet_double_blocks_18_img_attn_proj"));
    expect(() => missing.requireFit("transformer", weights)).toThrow(
      'made.safetensors is a LoRA for another model: it changes "transformer_blocks.18.attn.to_out.0.weight", ' +
        "which the model's transformer does not have.",
    );
    const larger = opened(kohya("lora_unet_double_blocks_0_img_attn_proj"));
    const message =
      /changes "transformer_blocks\.0\.attn\.to_out\.0\.weight" of shape \[2, 2\], which is \[32, 32\] in the model/;
    expect(() => larger.requireFit("transformer", weights)).toThrow(message);
    const name = "transformer_blocks.0.attn.to_out.0.weight";
    expect(() => loraDelta([{ lora: larger, scale: 1 }], "transformer", name, [32, 32])).toThrow(message);
  });
});
