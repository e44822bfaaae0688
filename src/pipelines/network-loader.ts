/** Brings a network's weights, in the model's precision and with LoRAs, under a graph; and starts it. */
import type { OnnxGraph } from "../onnx/graph-builder.ts";
import { Session, type SessionOptions } from "../onnx/session.ts";
import { AdaptedWeights } from "../weights/adapted-weights.ts";
import type { ScaledLora } from "../weights/lora.ts";
import { openNetwork } from "../weights/model-files.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import type { Component } from "../weights/single-file.ts";
import type { WeightSource } from "../weights/weight-source.ts";
import { type ConvertedModel, networkWeights } from "./model-conversion.ts";
import type { GraphFunction } from "./network-graphs.ts";

export type NetworkLoaderOptions = SessionOptions & ConvertedModel;

export class NetworkLoader {
  readonly #options: NetworkLoaderOptions;

  constructor(options: NetworkLoaderOptions) {
    this.#options = options;
  }

  /**
   * The graph of one of the model's networks, over weights that are ready to be loaded. Weights that must be converted first are.
   *
   * @throws ModelInvalidError, WeightsInvalidError when its files, or a LoRA for it, cannot be used.
   * @throws EaselError `io_failed` when converted weights cannot be kept.
   */
  async prepare(component: Component, graph: GraphFunction, loras: readonly ScaledLora[] = []): Promise<OnnxGraph> {
    const weights = await networkWeights(this.#options, component);
    return graph(withLoras(weights, openNetwork(this.#options.modelDir, component), component, loras));
  }

  /** The network of a graph, ready to run. Throws `ModelInvalidError` when ONNX Runtime refuses it. */
  start(graph: OnnxGraph): Promise<Session> {
    return Session.create(graph, this.#options);
  }
}

function withLoras(
  weights: NetworkWeights,
  source: WeightSource,
  component: Component,
  loras: readonly ScaledLora[],
): NetworkWeights {
  if (component === "vae") return weights;
  const concerned = loras.filter(({ lora }) => lora.tensorNames(component).length > 0);
  for (const { lora } of concerned) lora.requireFit(component, source);
  return concerned.length === 0 ? weights : new AdaptedWeights(weights, component, concerned);
}
