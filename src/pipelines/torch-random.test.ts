import { describe, expect, it } from "vitest";
import { readFixtureTensors } from "../../tests/oracle-fixtures.ts";
import { Mt19937, TorchGenerator } from "./torch-random.ts";

/** Bits, so that −0 differs from 0. */
function bits(values: Float32Array): Int32Array {
  return new Int32Array(values.buffer, values.byteOffset, values.length);
}

const torchRandn = (seed: number, length: number) => new TorchGenerator(seed).randn(length);

describe("torch's generator", () => {
  it("equals torch.randn bit for bit, for every recorded seed and length", () => {
    const recorded = Object.entries(readFixtureTensors("noise.safetensors"));
    expect(recorded.length).toBeGreaterThan(100);
    for (const [name, { data }] of recorded) {
      const seed = Number(name.split("/")[0]);
      expect(bits(torchRandn(seed, data.length)), name).toEqual(bits(data));
    }
  });

  it("takes the low 32 bits of the seed, as torch does", () => {
    expect(torchRandn(2 ** 32 + 5, 40)).toEqual(torchRandn(5, 40));
    expect(torchRandn(2 ** 53 - 1, 40)).toEqual(torchRandn(2 ** 32 - 1, 40));
  });

  it("gives nothing for a length of 0", () => {
    expect(torchRandn(1, 0)).toHaveLength(0);
  });
});

describe("Mt19937", () => {
  it("gives the 10000th output that the C++ standard fixes for the default seed", () => {
    const generator = new Mt19937(5489);
    for (let i = 1; i < 10_000; i++) generator.nextUint32();
    expect(generator.nextUint32()).toBe(4123659995);
  });
});
