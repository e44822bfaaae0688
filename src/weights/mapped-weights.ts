/** Weights used where they lie; the few that ONNX Runtime cannot map are read into the graph. */
import type { ExternalTensor, InlineTensor } from "../onnx/graph-builder.ts";
import type { LinearShape, LinearWeight, NetworkWeights } from "./network-weights.ts";
import { readTensor } from "./tensor-data.ts";
import { asMappable, valueCount } from "./tensor-location.ts";
import type { WeightSource } from "./weight-source.ts";

/** As float32. FLUX.1's single file has one layer whose halves are swapped, of 75 MB. */
const maxInlineBytes = 128 * 1024 * 1024;

export class MappedWeights implements NetworkWeights {
  readonly #source: WeightSource;

  private constructor(source: WeightSource) {
    this.#source = source;
  }

  /** undefined when too much of `source` is in encodings that must be converted. */
  static of(source: WeightSource): MappedWeights | undefined {
    const inlineBytes = source
      .tensors()
      .filter((tensor) => asMappable(tensor) === undefined)
      .reduce((total, { shape }) => total + 4 * valueCount(shape), 0);
    return inlineBytes <= maxInlineBytes ? new MappedWeights(source) : undefined;
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor | InlineTensor {
    const tensor = this.#source.locate(name, shape);
    return asMappable(tensor) ?? { name, shape, data: readTensor(tensor) };
  }

  linear(name: string, shape: LinearShape): LinearWeight {
    return { format: "float", weight: this.get(name, shape) };
  }
}
