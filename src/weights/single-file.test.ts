import { mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { float32, type TensorToWrite, writeSafetensors, zeros } from "../../tests/support/weight-files.ts";
import { ModelInvalidError, WeightsInvalidError } from "../errors.ts";
import { readSafetensorsHeader } from "./safetensors.ts";
import { type Component, readSingleFile } from "./single-file.ts";
import { readTensor } from "./tensor-data.ts";
import type { TensorLocation } from "./tensor-location.ts";
import { WeightSource } from "./weight-source.ts";

const fixtures = join(import.meta.dirname, "../../tests/fixtures");
const formats = join(fixtures, "formats");
const dir = mkdtempSync(join(tmpdir(), "easel-single-"));
afterAll(() => rmSync(dir, { recursive: true }));

function written(tensors: Record<string, TensorToWrite>): string {
  const path = join(dir, "made.safetensors");
  writeSafetensors(path, tensors);
  return path;
}

function one(value: number): TensorToWrite {
  return float32([1], [value]);
}

function locate(source: WeightSource, name: string): TensorLocation {
  return source.locate(name, source.shapeOf(name) ?? []);
}

/** The same names, shapes and values as a folder in the diffusers layout. */
function expectSame(source: WeightSource, folder: WeightSource): void {
  expect(source.names().sort()).toEqual(folder.names().sort());
  for (const name of folder.names()) {
    const tensor = source.locate(name, folder.shapeOf(name)!);
    expect(readTensor(tensor), name).toEqual(readTensor(locate(folder, name)));
  }
}

describe("a single file", () => {
  it("in Black Forest Labs' naming takes each of FLUX.1-dev's tensors from the rows that diffusers takes it from", () => {
    const { source, target } = JSON.parse(readFileSync(join(formats, "bfl-names.json"), "utf8")) as {
      source: Record<string, number>;
      target: Record<string, [string, number, number][]>;
    };
    const tensors = Object.entries(source).map(([name, rows]): [string, TensorToWrite] => [
      name,
      zeros("BF16", [rows, 1], 2),
    ]);
    const path = written(Object.fromEntries(tensors));
    const stored = readSafetensorsHeader(path);
    const located = readSingleFile(path, "transformer");
    expect([...located.keys()].sort()).toEqual(Object.keys(target).sort());
    for (const [name, runs] of Object.entries(target)) {
      const expected = runs.map(([from, first, rows]) => {
        return { offset: stored.get(from)!.ranges[0]!.offset + 2 * first, length: 2 * rows };
      });
      expect(located.get(name)?.ranges, name).toEqual(expected);
      expect(located.get(name)?.shape[0], name).toBe(runs.reduce((n, [, , rows]) => n + rows, 0));
    }
  });

  it("in Black Forest Labs' naming has the values of diffusers' folder", () => {
    const source = WeightSource.openFile(join(formats, "bfl.safetensors"), "transformer");
    expectSame(source, WeightSource.openFolder(join(fixtures, "flux-schnell-tiny", "transformer")));
  });

  it("of the autoencoder has diffusers' names and linear attention", () => {
    const source = WeightSource.openFile(join(formats, "ae.safetensors"), "vae");
    expectSame(source, WeightSource.openFolder(join(fixtures, "flux-dev-tiny", "vae")));
  });

  // No tolerance: gguf-py and torch decode with the same roundings.
  it.each(["bfl-fp8-scaled.safetensors", "flux.gguf"])("holds torch's and gguf-py's values: %s", (file) => {
    const source = WeightSource.openFile(join(formats, file), "transformer");
    const folder = WeightSource.openFolder(join(fixtures, "flux-dev-tiny", "transformer"));
    expect(source.names().sort()).toEqual(folder.names().sort());
    const recorded = readSafetensorsHeader(join(formats, `${file.split(".")[0]}.expected.safetensors`));
    expect(recorded.size).toBe(12);
    for (const [name, expected] of recorded) {
      expect(readTensor(source.locate(name, expected.shape)), name).toEqual(readTensor(expected));
    }
  });

  it("of T5 as GGUF has transformers' names and values", () => {
    const source = WeightSource.openFile(join(formats, "t5.gguf"), "text_encoder_2");
    const folder = WeightSource.openFolder(join(fixtures, "flux-dev-tiny", "text_encoder_2"));
    for (const name of source.names()) {
      expect(readTensor(source.locate(name, folder.shapeOf(name)!)), name).toEqual(readTensor(locate(folder, name)));
    }
    expect(folder.names().filter((name) => source.shapeOf(name) === undefined)).toEqual([]);
  });

  it.each<[Component, string]>([
    ["transformer", "transformer"],
    ["vae", "vae"],
    ["text_encoder", "text_encoder"],
    ["text_encoder_2", "text_encoder_2"],
  ])("may be diffusers' own: %s", (component, folder) => {
    const dev = join(fixtures, "flux-dev-tiny", folder);
    const file = folder.startsWith("text") ? "model.safetensors" : "diffusion_pytorch_model.safetensors";
    expectSame(WeightSource.openFile(join(dev, file), component), WeightSource.openFolder(dev));
  });

  it("may hold all four networks behind ComfyUI's prefixes", () => {
    const path = written({
      "model.diffusion_model.img_in.weight": one(1),
      "vae.decoder.mid.block_1.conv1.weight": one(2),
      "vae.decoder.up.3.block.0.conv1.weight": one(3),
      "text_encoders.clip_l.transformer.text_model.final_layer_norm.weight": one(4),
      "text_encoders.clip_l.logit_scale": one(5),
      "text_encoders.t5xxl.transformer.encoder.final_layer_norm.weight": one(6),
    });
    const value = (component: Component, name: string) =>
      readTensor(WeightSource.openFile(path, component).get(name, [1]))[0];
    expect(value("transformer", "x_embedder.weight")).toBe(1);
    expect(value("vae", "decoder.mid_block.resnets.0.conv1.weight")).toBe(2);
    expect(value("vae", "decoder.up_blocks.0.resnets.0.conv1.weight")).toBe(3);
    expect(value("text_encoder", "text_model.final_layer_norm.weight")).toBe(4);
    expect(value("text_encoder_2", "encoder.final_layer_norm.weight")).toBe(6);
  });

  it("may name its 8-bit scales the later way", () => {
    const weight = { dtype: "F8_E4M3", shape: [1], data: Uint8Array.of(0x38) }; // 1
    const path = written({ "img_in.weight": weight, "img_in.weight_scale": float32([], [0.25]) });
    expect([...readTensor(readSingleFile(path, "transformer").get("x_embedder.weight")!)]).toEqual([0.25]);
  });

  it("keeps plain floats mappable, sliced or not, and refuses to map what must be converted", () => {
    const source = WeightSource.openFile(join(formats, "bfl.safetensors"), "transformer");
    const q = source.get("transformer_blocks.0.attn.to_q.weight", [36, 36]);
    const k = source.get("transformer_blocks.0.attn.to_k.weight", [36, 36]);
    expect([q.dtype, k.offset - q.offset, k.length]).toEqual(["bfloat16", 2 * 36 * 36, 2 * 36 * 36]);
    expect(() => source.get("norm_out.linear.weight", [72, 36])).toThrow(
      /is stored in several pieces and must be converted/,
    );
    const fp8 = WeightSource.openFile(join(formats, "bfl-fp8-scaled.safetensors"), "transformer");
    expect(() => fp8.get("transformer_blocks.0.attn.to_q.weight", [32, 32])).toThrow(ModelInvalidError);
    const gguf = WeightSource.openFile(join(formats, "flux.gguf"), "transformer");
    expect(() => gguf.get("transformer_blocks.1.attn.to_k.weight", [32, 32])).toThrow(/is stored as q|float/);
  });

  it("is refused when it holds another network, by its name", () => {
    expect(() => readSingleFile(join(formats, "ae.safetensors"), "transformer")).toThrow(
      /^ae\.safetensors holds no FLUX transformer that Easel knows: none of its \d+ tensors is named "img_in\.weight" or/,
    );
    expect(() => readSingleFile(join(formats, "flux.gguf"), "text_encoder_2")).toThrow(ModelInvalidError);
  });

  it("of bitsandbytes is refused by its name", () => {
    const path = written({
      "img_in.weight": float32([1], [0]),
      "double_blocks.0.img_attn.qkv.weight": zeros("U8", [8, 1], 1),
      "double_blocks.0.img_attn.qkv.weight.quant_map": float32([16], Array(16).fill(0)),
    });
    expect(() => readSingleFile(path, "transformer")).toThrow("was quantized by bitsandbytes");
  });

  it("is refused when its rows do not divide, or its scales are not one a tensor", () => {
    const marker = { "img_in.weight": float32([1], [0]) };
    const odd = written({ ...marker, "single_blocks.0.linear1.weight": zeros("BF16", [10, 2], 2) });
    expect(() => readSingleFile(odd, "transformer")).toThrow(
      '"single_blocks.0.linear1.weight" has 10 rows, which do not divide into 7 equal parts.',
    );
    const scales = written({ ...marker, "img_in.scale_weight": float32([2], [1, 2]) });
    expect(() => readSingleFile(scales, "transformer")).toThrow(WeightsInvalidError);
    const notANumber = written({ ...marker, "img_in.scale_weight": one(Number.NaN) });
    expect(() => readSingleFile(notANumber, "transformer")).toThrow(/no number in "img_in\.scale_weight"/);
  });
});
