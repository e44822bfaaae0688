import { describe, expect, it } from "vitest";
import { publishedConfigs } from "../../bench/published-flux.ts";
import { fullSizeSource } from "../../tests/support/full-size.ts";
import { ModelInvalidError } from "../errors.ts";
import { deriveConfig, publishedScheduler } from "./single-file-config.ts";
import { components } from "./single-file.ts";
import { WeightSource } from "./weight-source.ts";

describe("the configuration of a single file", () => {
  it.each(components)("of FLUX.1's own size is the published one: %s", (component) => {
    expect(deriveConfig(component, fullSizeSource(component))).toMatchObject(publishedConfigs[component]);
  });

  it("tells schnell from dev by the guidance embedder, and gives each its schedule", () => {
    const schnell = deriveConfig("transformer", fullSizeSource("transformer", { guidance_embeds: false }));
    expect(schnell["guidance_embeds"]).toBe(false);
    expect(publishedScheduler(true)).toMatchObject({
      shift: 3,
      use_dynamic_shifting: true,
      base_shift: 0.5,
      max_shift: 1.15,
    });
    expect(publishedScheduler(false)).toMatchObject({ shift: 1, use_dynamic_shifting: false });
  });

  it("counts the blocks of a pruned or grown transformer", () => {
    const source = fullSizeSource("transformer", { num_layers: 8, num_single_layers: 41 });
    expect(deriveConfig("transformer", source)).toMatchObject({ num_layers: 8, num_single_layers: 41 });
  });

  it("believes a description in what shapes do not tell only where it agrees with them", () => {
    const other = fullSizeSource("vae", { block_out_channels: [64, 128], norm_num_groups: 16 });
    const hint = { latent_channels: 16, block_out_channels: [64, 128], norm_num_groups: 16, scaling_factor: 0.5 };
    expect(deriveConfig("vae", other, [hint])).toMatchObject({
      norm_num_groups: 16,
      scaling_factor: 0.5,
      shift_factor: 0.1159,
    });
    expect(() => deriveConfig("vae", other, [{ ...hint, latent_channels: 4 }])).toThrow(ModelInvalidError);
    expect(deriveConfig("vae", fullSizeSource("vae"), [hint])).toMatchObject(publishedConfigs.vae);
  });

  it("is refused when a tensor that would tell it is missing or misshapen, however high its numbers", () => {
    const tensors = new Map(
      fullSizeSource("vae")
        .tensors()
        .map((tensor) => [tensor.name, tensor]),
    );
    const conv = tensors.get("decoder.conv_in.weight")!;
    const misshapen = new Map([...tensors, [conv.name, { ...conv, shape: [512] }]]);
    expect(() => deriveConfig("vae", new WeightSource(misshapen, "a file"))).toThrow(
      'The tensor "decoder.conv_in.weight" in "a file" has the shape [512], not one of 4 axes.',
    );
    const name = "decoder.up_blocks.9999.resnets.0.conv1.weight";
    const hostile = new Map([...tensors, [name, { ...conv, name }]]);
    expect(() => deriveConfig("vae", new WeightSource(hostile, "a file"))).toThrow(
      'The weights in "a file" lack the tensor "decoder.up_blocks.4.resnets.0.conv1.weight".',
    );
    expect(() => deriveConfig("transformer", new WeightSource(tensors, "a file"))).toThrow(
      'lack the tensor "x_embedder.weight"',
    );
  });
});
