/**
 * The compact enlarging network of Real-ESRGAN (`SRVGGNetCompact`, Wang et al. 2021,
 * https://github.com/xinntao/Real-ESRGAN/blob/master/realesrgan/archs/srvgg_arch.py): convolutions at the small size, then
 * one pixel shuffle, added to the repeated pixels. Easel's own upscaler and `realesr-general-x4v3` are of this kind.
 */
import { GraphBuilder, type OnnxGraph } from "../onnx/graph-builder.ts";
import type { WeightSource } from "../weights/weight-source.ts";
import { conv2d, WeightScope } from "./layers.ts";
import type { UpscalerNetwork } from "./upscaler-network.ts";

/** Of the leaky ReLU that the network has where its file holds no learnt slopes. */
const fixedSlope = 0.1;

/** The network in a file whose names begin with `prefix`; undefined when the file holds something else. */
export function srvggNet(weights: WeightSource, prefix: string): UpscalerNetwork | undefined {
  const [features, channels] = weights.shapeOf(`${prefix}body.0.weight`) ?? [];
  const lastLayer = lastIndex(weights, prefix);
  const [shuffled = 0] = weights.shapeOf(`${prefix}body.${lastLayer}.weight`) ?? [];
  const factor = Math.sqrt(shuffled / 3);
  if (features === undefined || channels !== 3 || lastLayer % 2 !== 0 || !Number.isInteger(factor)) return undefined;
  const convolutions = lastLayer / 2 + 1;
  return {
    architecture: "SRVGGNetCompact",
    factor,
    sideMultiple: 1,
    context: convolutions,
    parameters: weights.parameters(prefix),
    valuesPerPixel: 2 * features + 9 * factor ** 2,
    graph: () => graph(weights, prefix, { features, lastLayer, factor }),
  };
}

/** Convolutions and activations take turns under `body`; the last convolution has the highest number. */
function lastIndex(weights: WeightSource, prefix: string): number {
  const numbers = weights
    .names()
    .map((name) => new RegExp(String.raw`^body\.(\d+)\.bias$`).exec(name.slice(prefix.length))?.[1])
    .filter((number) => number !== undefined);
  return Math.max(0, ...numbers.map(Number));
}

/** `image` [1, 3, h, w] in 0…1 → `enlarged` [1, 3, factor · h, factor · w], not clipped. */
function graph(
  weights: WeightSource,
  prefix: string,
  { features, lastLayer, factor }: { features: number; lastLayer: number; factor: number },
): OnnxGraph {
  const g = new GraphBuilder("srvgg_net");
  const body = new WeightScope(g, weights, prefix).at("body");
  const image = g.input("image", "float32", [1, 3, "h", "w"]);
  let x = conv2d(body.at(0), image, features, 3);
  for (let layer = 1; layer < lastLayer; layer += 2) {
    const slopes = body.at(layer);
    x = slopes.has("weight") ? g.prelu(x, slopes.weight("weight", [features])) : g.leakyRelu(x, fixedSlope);
    x = conv2d(body.at(layer + 1), x, layer + 1 === lastLayer ? 3 * factor ** 2 : features, 3);
  }
  g.output("enlarged", g.add(g.pixelShuffle(x, factor), g.upsampleNearest(image, factor)));
  return g.build();
}
