import { describe, expect, it } from "vitest";
import { readFixtureTensors } from "../../tests/oracle-fixtures.ts";
import { imageIds, packLatents, textIds, unpackLatents } from "./latents.ts";
import { TorchGenerator } from "./torch-random.ts";

describe("latents", () => {
  it("are the noise that diffusers draws for a shape", () => {
    const { data } = readFixtureTensors("noise.safetensors")["42/16x8x12"]!;
    expect(new TorchGenerator(42).randn(16 * 8 * 12)).toEqual(data);
  });

  it("are packed as diffusers packs them", () => {
    const { latents, packed } = readFixtureTensors("packed-latents.safetensors");
    const [, channels, height, width] = latents!.dims as [number, number, number, number];
    expect(packLatents(latents!.data, channels, height, width)).toEqual(packed!.data);
  });

  it("are unpacked to what was packed, for any even size", () => {
    for (const [channels, height, width] of [
      [16, 8, 12],
      [1, 2, 2],
      [3, 2, 10],
    ] as const) {
      const latents = new TorchGenerator(1).randn(channels * height * width);
      const packed = packLatents(latents, channels, height, width);
      expect(unpackLatents(packed, channels, height, width)).toEqual(latents);
    }
  });

  it("stand at their row and column, as diffusers says, and text at the origin", () => {
    const { img_ids: expected } = readFixtureTensors("networks/flux-dev-tiny/transformer.safetensors");
    expect(imageIds(5, 7)).toEqual(expected!.data);
    expect(textIds(9)).toEqual(new Float32Array(27));
  });
});
