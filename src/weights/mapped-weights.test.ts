import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { fullSizeSource } from "../../tests/support/full-size.ts";
import { StoredWeights, WeightConverter } from "./converted-weights.ts";
import { MappedWeights } from "./mapped-weights.ts";
import { readTensor } from "./tensor-data.ts";
import { WeightSource } from "./weight-source.ts";

const formats = join(import.meta.dirname, "../../tests/fixtures/formats");
const dir = mkdtempSync(join(tmpdir(), "easel-mapped-"));
afterAll(() => rmSync(dir, { recursive: true }));

describe("weights used where they lie", () => {
  it("are mapped, and the few that cannot be are read", () => {
    const source = WeightSource.openFile(join(formats, "bfl.safetensors"), "transformer");
    const weights = MappedWeights.of(source)!;
    expect(weights.get("transformer_blocks.0.attn.to_q.weight", [36, 36])).toMatchObject({ dtype: "bfloat16" });
    // Its halves are swapped in the file.
    const swapped = weights.get("norm_out.linear.weight", [72, 36]);
    expect(swapped).toEqual({
      name: "norm_out.linear.weight",
      shape: [72, 36],
      data: readTensor(source.locate("norm_out.linear.weight", [72, 36])),
    });
  });

  it("stay float16 for half precision, in matrices that are stored so and not to be exact", () => {
    const folder = join(import.meta.dirname, "../../models/easel-sketch/text_encoder_2");
    const source = WeightSource.openFolder(folder);
    const name = source.names().find((one) => one.endsWith(".wo.weight"))!;
    const shape = source.shapeOf(name) as [number, number];
    const weights = MappedWeights.of(source, "fp16")!;
    const half = { format: "fp16", transposed: false, weight: { dtype: "float16", shape } };
    expect(weights.linear(name, shape)).toMatchObject(half);
    expect(weights.linear(name, shape, { exact: true })).toMatchObject({ format: "float" });
    expect(MappedWeights.of(source)!.linear(name, shape)).toMatchObject({ format: "float" });
    expect(MappedWeights.of(fullSizeSource("transformer"), "fp16")).toBeUndefined(); // bfloat16
  });

  it("are FLUX.1's in full precision, but not when all of them would have to be read", () => {
    const source = fullSizeSource("transformer");
    const swapped = source.tensors().map((tensor) => {
      const [whole] = tensor.ranges;
      const half = whole!.length / 2;
      const ranges = [
        { offset: half, length: half },
        { offset: 0, length: half },
      ];
      return tensor.name === "norm_out.linear.weight" ? { ...tensor, ranges } : tensor;
    });
    const named = (tensors: typeof swapped) => new WeightSource(new Map(tensors.map((t) => [t.name, t])), "flux1-dev");
    expect(MappedWeights.of(named(swapped))).toBeInstanceOf(MappedWeights);
    const fp8 = swapped.map((tensor) => ({ ...tensor, encoding: "float8_e4m3" as const }));
    expect(MappedWeights.of(named(fp8))).toBeUndefined();
  });
});

it("a GGUF file's blocks, converted to floats, have the values that they decode to", async () => {
  const source = WeightSource.openFile(join(formats, "flux.gguf"), "transformer");
  const converter = new WeightConverter(source, { linear: "float", int8Limit: 127 });
  for (const { name, shape } of source.tensors()) converter.get(name, shape);
  await converter.write(dir);
  const stored = StoredWeights.open(dir)!;
  for (const { name, shape, ...tensor } of source.tensors()) {
    const { file, offset, length, dtype } = stored.get(name, shape);
    const read = readTensor({ name, shape, file, encoding: "float32", ranges: [{ offset, length }] });
    expect([dtype, read], name).toEqual(["float32", readTensor({ name, shape, ...tensor })]);
  }
});
