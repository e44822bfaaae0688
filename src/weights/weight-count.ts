/** Counts a network's values by writing its graph on weights that are looked up and not read. */
import type { ExternalTensor } from "../onnx/graph-builder.ts";
import type { LinearOptions, LinearShape, LinearWeight, NetworkWeights } from "./network-weights.ts";
import { valueCount } from "./tensor-location.ts";
import type { WeightSource } from "./weight-source.ts";

/** How many values a network's weights have. */
export interface WeightCount {
  /** In linear layers that take the precision asked for. */
  linearValues: number;
  /** Outputs of these layers, which have scales of their own in small integers. */
  linearOutputs: number;
  /** In everything else, which is kept in float. */
  floatValues: number;
}

export class WeightCounter implements NetworkWeights {
  readonly #source: WeightSource;
  readonly #counted = new Set<string>();
  readonly count: WeightCount = { linearValues: 0, linearOutputs: 0, floatValues: 0 };

  constructor(source: WeightSource) {
    this.#source = source;
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    const tensor = this.#locate(name, shape);
    if (!this.#counted.has(name)) this.count.floatValues += valueCount(shape);
    this.#counted.add(name);
    return tensor;
  }

  linear(name: string, shape: LinearShape, { exact = false }: LinearOptions = {}): LinearWeight {
    if (exact) return { format: "float", weight: this.get(name, shape) };
    const weight = this.#locate(name, shape);
    if (!this.#counted.has(name)) {
      this.count.linearValues += valueCount(shape);
      this.count.linearOutputs += shape[0];
    }
    this.#counted.add(name);
    return { format: "float", weight };
  }

  /** A tensor for a graph that will never be run. */
  #locate(name: string, shape: readonly number[]): ExternalTensor {
    const { file } = this.#source.locate(name, shape);
    return { name, dtype: "float32", shape, file, offset: 0, length: 4 * valueCount(shape) };
  }
}
