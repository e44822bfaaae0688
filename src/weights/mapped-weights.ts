/**
 * Weights used where they lie, in float32 or, where the linear layers are stored as float16, for products in that; the few that
 * ONNX Runtime cannot map are read into the graph.
 */
import type { ExternalTensor, InlineTensor } from "../onnx/graph-builder.ts";
import type { LinearOptions, LinearShape, LinearWeight, NetworkWeights } from "./network-weights.ts";
import { readTensor } from "./tensor-data.ts";
import { asMappable, valueCount } from "./tensor-location.ts";
import type { WeightSource } from "./weight-source.ts";

/** As float32. FLUX.1's single file has one layer whose halves are swapped, of 75 MB. */
const maxInlineBytes = 128 * 1024 * 1024;

export class MappedWeights implements NetworkWeights {
  readonly #source: WeightSource;
  readonly #linear: "float" | "fp16";

  private constructor(source: WeightSource, linear: "float" | "fp16") {
    this.#source = source;
    this.#linear = linear;
  }

  /** undefined when too much of `source` is in encodings that must be converted; for fp16 when a matrix is no float16. */
  static of(source: WeightSource, linear: "float" | "fp16" = "float"): MappedWeights | undefined {
    const matrices = source.tensors().filter(({ shape }) => shape.length > 1);
    if (linear === "fp16" && matrices.some(({ encoding }) => encoding !== "float16")) return undefined;
    const inlineBytes = source
      .tensors()
      .filter((tensor) => asMappable(tensor) === undefined)
      .reduce((total, { shape }) => total + 4 * valueCount(shape), 0);
    return inlineBytes <= maxInlineBytes ? new MappedWeights(source, linear) : undefined;
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor | InlineTensor {
    const tensor = this.#source.locate(name, shape);
    return asMappable(tensor) ?? { name, shape, data: readTensor(tensor) };
  }

  linear(name: string, shape: LinearShape, { exact = false }: LinearOptions = {}): LinearWeight {
    const weight = this.get(name, shape);
    const isHalf = "file" in weight && weight.dtype === "float16";
    if (this.#linear === "fp16" && !exact && isHalf) return { format: "fp16", weight, transposed: false };
    return { format: "float", weight };
  }
}
