/** The weights of one network, from a folder's safetensors files or from a single file: found by name, checked by shape. */
import { existsSync, readFileSync, readdirSync } from "node:fs";
import { basename, join } from "node:path";
import { ModelInvalidError } from "../errors.ts";
import type { LinearShape, LinearWeight, NetworkWeights } from "./network-weights.ts";
import { readSafetensorsHeader } from "./safetensors.ts";
import { type Component, readSingleFile } from "./single-file.ts";
import { asMappable, type MappableTensor, type TensorLocation } from "./tensor-location.ts";

export class WeightSource implements NetworkWeights {
  readonly #tensors: ReadonlyMap<string, TensorLocation>;
  /** What messages call it: a file's or a folder's name. */
  readonly label: string;

  constructor(tensors: ReadonlyMap<string, TensorLocation>, label: string) {
    this.#tensors = tensors;
    this.label = label;
  }

  /**
   * Opens a component's folder in the diffusers layout: one `*.safetensors` file, or shards with a
   * `*.safetensors.index.json`.
   *
   * @throws ModelInvalidError when there is no such file, a shard is missing, or the index names a tensor that no shard has.
   * @throws WeightsInvalidError when a file is damaged.
   */
  static openFolder(dir: string): WeightSource {
    const label = basename(dir);
    const names = existsSync(dir) ? readdirSync(dir) : [];
    const index = names.find((name) => name.endsWith(".safetensors.index.json"));
    if (index !== undefined) return new WeightSource(readShards(dir, index), label);
    const files = names.filter((name) => name.endsWith(".safetensors"));
    const file = preferredFile(files);
    if (file === undefined) {
      throw new ModelInvalidError(
        `The model's folder "${label}" has no .safetensors file; copy the whole model folder.`,
      );
    }
    return new WeightSource(readSafetensorsHeader(join(dir, file)), label);
  }

  /**
   * Opens one network of a single checkpoint file, safetensors or GGUF, whatever naming it is published in.
   *
   * @throws ModelInvalidError when the file holds no such network.
   * @throws WeightsInvalidError when the file is damaged.
   */
  static openFile(path: string, component: Component): WeightSource {
    return new WeightSource(readSingleFile(path, component), basename(path));
  }

  has(name: string): boolean {
    return this.#tensors.has(name);
  }

  /** Every tensor's name, as diffusers has it. */
  names(): string[] {
    return [...this.#tensors.keys()];
  }

  /** How many numbers the tensors have whose names begin with `prefix`. */
  parameters(prefix: string): number {
    const ours = [...this.#tensors.values()].filter(({ name }) => name.startsWith(prefix));
    return ours.reduce((sum, { shape }) => sum + shape.reduce((product, side) => product * side, 1), 0);
  }

  /** The files that the tensors lie in, absolute and sorted. */
  files(): string[] {
    return [...new Set([...this.#tensors.values()].map(({ file }) => file))].sort();
  }

  tensors(): TensorLocation[] {
    return [...this.#tensors.values()];
  }

  /** undefined when there is no such tensor. */
  shapeOf(name: string): readonly number[] | undefined {
    return this.#tensors.get(name)?.shape;
  }

  /**
   * A tensor that ONNX Runtime can map as it is.
   *
   * @throws ModelInvalidError when the tensor is missing, its shape differs from `shape`, or it must be converted first.
   */
  get(name: string, shape: readonly number[]): MappableTensor {
    const tensor = this.locate(name, shape);
    const mappable = asMappable(tensor);
    if (mappable === undefined) {
      const how = tensor.ranges.length > 1 ? "in several pieces" : `as ${tensor.encoding}`;
      throw new ModelInvalidError(
        `The tensor "${name}" in "${this.label}" is stored ${how} and must be converted before the model can run.`,
      );
    }
    return mappable;
  }

  linear(name: string, shape: LinearShape): LinearWeight {
    return { format: "float", weight: this.get(name, shape) };
  }

  /**
   * A tensor in any encoding, for `readTensor`.
   *
   * @throws ModelInvalidError when the tensor is missing or its shape differs from `shape`.
   */
  locate(name: string, shape: readonly number[]): TensorLocation {
    const tensor = this.#tensors.get(name);
    if (tensor === undefined) throw new ModelInvalidError(`The weights in "${this.label}" lack the tensor "${name}".`);
    if (tensor.shape.length !== shape.length || tensor.shape.some((dim, i) => dim !== shape[i])) {
      throw new ModelInvalidError(
        `The tensor "${name}" in "${this.label}" has the shape [${tensor.shape.join(", ")}], ` +
          `but the model's config.json asks for [${shape.join(", ")}].`,
      );
    }
    return tensor;
  }
}

/** Published folders often hold an fp16 variant beside the full file: the one without a variant is the model. */
function preferredFile(files: string[]): string | undefined {
  const plain = ["diffusion_pytorch_model.safetensors", "model.safetensors"];
  return files.find((name) => plain.includes(name)) ?? (files.length === 1 ? files[0] : undefined);
}

function readShards(dir: string, index: string): Map<string, TensorLocation> {
  const fail = (problem: string): never => {
    throw new ModelInvalidError(`${basename(dir)}/${index} ${problem}.`);
  };
  let weightMap: unknown;
  try {
    weightMap = (JSON.parse(readFileSync(join(dir, index), "utf8")) as { weight_map?: unknown }).weight_map;
  } catch {
    fail("is not readable JSON");
  }
  if (typeof weightMap !== "object" || weightMap === null) return fail('has no "weight_map"');

  const tensors = new Map<string, TensorLocation>();
  const shards = new Map<string, Map<string, TensorLocation>>();
  for (const [name, shard] of Object.entries(weightMap)) {
    // A shard's name comes from a file that may be hostile: it must not lead out of the folder.
    if (typeof shard !== "string" || basename(shard) !== shard) return fail(`names an impossible file for "${name}"`);
    if (!shards.has(shard)) {
      if (!existsSync(join(dir, shard))) fail(`names ${shard}, which is missing; copy the whole model folder`);
      shards.set(shard, readSafetensorsHeader(join(dir, shard)));
    }
    const tensor = shards.get(shard)?.get(name);
    if (tensor === undefined) return fail(`places "${name}" in ${shard}, which does not hold it`);
    tensors.set(name, tensor);
  }
  return tensors;
}
