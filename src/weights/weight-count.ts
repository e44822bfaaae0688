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
  /** Of all these, stored as 16-bit floats. */
  halfValues: number;
}

export class WeightCounter implements NetworkWeights {
  readonly #source: WeightSource;
  readonly #counted = new Set<string>();
  readonly count: WeightCount = { linearValues: 0, linearOutputs: 0, floatValues: 0, halfValues: 0 };

  constructor(source: WeightSource) {
    this.#source = source;
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    return this.#add(name, shape, (values) => (this.count.floatValues += values));
  }

  linear(name: string, shape: LinearShape, { exact = false }: LinearOptions = {}): LinearWeight {
    if (exact) return { format: "float", weight: this.get(name, shape) };
    const weight = this.#add(name, shape, (values) => {
      this.count.linearValues += values;
      this.count.linearOutputs += shape[0];
    });
    return { format: "float", weight };
  }

  /** Counts a tensor when it is asked for first; gives one for a graph that will never be run. */
  #add(name: string, shape: readonly number[], count: (values: number) => void): ExternalTensor {
    const { file, encoding } = this.#source.locate(name, shape);
    const values = valueCount(shape);
    if (!this.#counted.has(name)) {
      count(values);
      if (encoding === "float16" || encoding === "bfloat16") this.count.halfValues += values;
    }
    this.#counted.add(name);
    return { name, dtype: "float32", shape, file, offset: 0, length: 4 * values };
  }
}
