/** The graphs of each of a model's networks, by the configurations in its folder: for whoever asks about weights, not pictures. */
import { join } from "node:path";
import { autoencoderDecoder, autoencoderEncoder, parseAutoencoderConfig } from "../models/autoencoder.ts";
import { clipTextEncoder, parseClipTextConfig } from "../models/clip-text-encoder.ts";
import { ConfigReader } from "../models/config-reader.ts";
import { parseFluxConfig } from "../models/flux/config.ts";
import { fluxTransformer } from "../models/flux/transformer.ts";
import { parseT5Config, t5Encoder } from "../models/t5-encoder.ts";
import type { OnnxGraph } from "../onnx/graph-builder.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import type { Component } from "../weights/single-file.ts";

/** Writes a network's graph on weights that it is given. */
export type GraphFunction = (weights: NetworkWeights) => OnnxGraph;

/** Networks that stay in float whatever the precision of the others: small ones, which all of the picture passes through. */
export const exactNetworks: ReadonlySet<Component> = new Set(["text_encoder", "vae"]);

/**
 * What writes the graphs of `component` of the model in `modelDir`: two for the autoencoder, one for each of the others.
 *
 * @throws ModelInvalidError when the configuration is missing or cannot be honoured.
 */
export function networkGraphs(modelDir: string, component: Component): GraphFunction[] {
  return graphsOf(component, ConfigReader.read(join(modelDir, component)));
}

/** The same for a configuration that need not lie in a folder. */
export function graphsOf(component: Component, reader: ConfigReader): GraphFunction[] {
  switch (component) {
    case "transformer": {
      const config = parseFluxConfig(reader);
      return [(weights) => fluxTransformer(config, weights)];
    }
    case "text_encoder": {
      const config = parseClipTextConfig(reader);
      return [(weights) => clipTextEncoder(config, weights)];
    }
    case "text_encoder_2": {
      const config = parseT5Config(reader);
      return [(weights) => t5Encoder(config, weights)];
    }
    case "vae": {
      const config = parseAutoencoderConfig(reader);
      return [(weights) => autoencoderDecoder(config, weights), (weights) => autoencoderEncoder(config, weights)];
    }
  }
}
