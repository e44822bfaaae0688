/** A network's weights with LoRAs on top: the weights stay as they are, and each adapted layer gets two small products more. */
import type { ExternalTensor, InlineTensor } from "../onnx/graph-builder.ts";
import { type LoraComponent, type ScaledLora } from "./lora.ts";
import type { LinearOptions, LinearShape, LinearWeight, LowRankAdapter, NetworkWeights } from "./network-weights.ts";
import { readTensor } from "./tensor-data.ts";

export class AdaptedWeights implements NetworkWeights {
  readonly #weights: NetworkWeights;
  readonly #component: LoraComponent;
  readonly #loras: readonly ScaledLora[];

  /** `loras` must fit the network: see `Lora.requireFit`. */
  constructor(weights: NetworkWeights, component: LoraComponent, loras: readonly ScaledLora[]) {
    this.#weights = weights;
    this.#component = component;
    this.#loras = loras;
  }

  has(name: string): boolean {
    return this.#weights.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor | InlineTensor {
    return this.#weights.get(name, shape);
  }

  linear(name: string, shape: LinearShape, options?: LinearOptions): LinearWeight {
    const weight = this.#weights.linear(name, shape, options);
    const adapters = this.#loras.flatMap(({ lora, scale }) =>
      lora.factors(this.#component, name).map((factors): LowRankAdapter => {
        const strength = scale * factors.scale;
        return {
          rank: factors.down.shape[0]!,
          down: readTensor(factors.down),
          up: readTensor(factors.up).map((value) => value * strength),
        };
      }),
    );
    return adapters.length === 0 ? weight : { ...weight, adapters };
  }
}
