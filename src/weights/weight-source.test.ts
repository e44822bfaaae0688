import { mkdirSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeEach, describe, expect, it } from "vitest";
import { ModelInvalidError } from "../errors.ts";
import { WeightSource } from "./weight-source.ts";

const root = mkdtempSync(join(tmpdir(), "easel-weights-"));
afterAll(() => rmSync(root, { recursive: true }));
let dir = "";
let count = 0;
beforeEach(() => {
  dir = join(root, `${count++}`, "transformer");
  mkdirSync(dir, { recursive: true });
});

/** A file that holds float32 scalars under the given names. */
function writeTensors(path: string, ...names: string[]): void {
  const entries = names.map((name, i) => [name, { dtype: "F32", shape: [1], data_offsets: [4 * i, 4 * i + 4] }]);
  const header = Buffer.from(JSON.stringify(Object.fromEntries(entries)));
  const prefix = Buffer.alloc(8);
  prefix.writeBigUInt64LE(BigInt(header.length));
  writeFileSync(path, Buffer.concat([prefix, header, Buffer.alloc(4 * names.length)]));
}

function writeIndex(weightMap: unknown): void {
  writeFileSync(join(dir, "diffusion_pytorch_model.safetensors.index.json"), JSON.stringify({ weight_map: weightMap }));
}

describe("a component's folder", () => {
  it("may hold one file", () => {
    writeTensors(join(dir, "diffusion_pytorch_model.safetensors"), "a", "b");
    expect(WeightSource.openFolder(dir).get("b", [1]).file).toContain("diffusion_pytorch_model.safetensors");
  });

  it("may hold the full weights beside an fp16 variant, which is left alone", () => {
    writeTensors(join(dir, "model.safetensors"), "a");
    writeTensors(join(dir, "model.fp16.safetensors"), "b");
    const source = WeightSource.openFolder(dir);
    expect([source.has("a"), source.has("b")]).toEqual([true, false]);
  });

  it("may hold shards with an index", () => {
    writeTensors(join(dir, "x-1.safetensors"), "a");
    writeTensors(join(dir, "x-2.safetensors"), "b");
    writeIndex({ a: "x-1.safetensors", b: "x-2.safetensors" });
    const source = WeightSource.openFolder(dir);
    expect(source.get("a", [1]).file).toContain("x-1");
    expect(source.get("b", [1]).file).toContain("x-2");
  });

  it("may hold links, as a download cache does; the tensors lie where the links lead", () => {
    const blobs = join(dir, "..", "blobs");
    mkdirSync(blobs);
    writeTensors(join(blobs, "5f3a"), "a");
    symlinkSync(join("..", "blobs", "5f3a"), join(dir, "model.safetensors"));
    expect(WeightSource.openFolder(dir).get("a", [1]).file).toMatch(/blobs.5f3a$/);
  });

  it("without weights is refused by its name", () => {
    expect(() => WeightSource.openFolder(dir)).toThrow('folder "transformer" has no .safetensors file');
    expect(() => WeightSource.openFolder(join(dir, "missing"))).toThrow(ModelInvalidError);
  });

  it.each<[string, unknown, RegExp]>([
    ["a missing shard", { a: "gone.safetensors" }, /gone\.safetensors, which is missing/],
    ["a tensor that its shard lacks", { z: "x-1.safetensors" }, /"z" in x-1\.safetensors, which does not hold it/],
    ["a path out of the folder", { a: "../../x-1.safetensors" }, /impossible file for "a"/],
    ["a shard that is not a name", { a: 7 }, /impossible file/],
    ["no map", undefined, /no "weight_map"/],
  ])("whose index has %s is refused", (_what, weightMap, message) => {
    writeTensors(join(dir, "x-1.safetensors"), "a");
    writeIndex(weightMap);
    expect(() => WeightSource.openFolder(dir)).toThrow(ModelInvalidError);
    expect(() => WeightSource.openFolder(dir)).toThrow(message);
  });

  it("gives a tensor only in the shape that the configuration asks for", () => {
    writeTensors(join(dir, "model.safetensors"), "a");
    const source = WeightSource.openFolder(dir);
    expect(() => source.get("a", [2, 3])).toThrow(
      '"a" in "transformer" has the shape [1], but the model\'s config.json asks for [2, 3]',
    );
    expect(() => source.get("b", [1])).toThrow('lack the tensor "b"');
  });
});
