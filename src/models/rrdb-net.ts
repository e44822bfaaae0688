/**
 * The large enlarging network of ESRGAN and Real-ESRGAN (`RRDBNet`, Wang et al. 2018 and 2021,
 * https://github.com/XPixelGroup/BasicSR/blob/master/basicsr/archs/rrdbnet_arch.py): residual-in-residual dense blocks, then
 * two doublings. Networks for ×2 and ×1 first fold the picture's pixels into channels.
 */
import { GraphBuilder, type OnnxGraph, type Value } from "../onnx/graph-builder.ts";
import type { WeightSource } from "../weights/weight-source.ts";
import { conv2d, WeightScope } from "./layers.ts";
import type { UpscalerNetwork } from "./upscaler-network.ts";

const slope = 0.2;
/** How much of what a block finds is added to what it got. */
const residualShare = 0.2;
/** Of the doublings together. */
const growth = 4;

/** The network in a file whose names begin with `prefix`; undefined when the file holds something else. */
export function rrdbNet(weights: WeightSource, prefix: string): UpscalerNetwork | undefined {
  const [features, channels = 0] = weights.shapeOf(`${prefix}conv_first.weight`) ?? [];
  const [denseFeatures] = weights.shapeOf(`${prefix}body.0.rdb1.conv1.weight`) ?? [];
  const fold = Math.sqrt(channels / 3);
  if (features === undefined || denseFeatures === undefined || ![1, 2].includes(fold)) return undefined;
  let blocks = 0;
  while (weights.has(`${prefix}body.${blocks}.rdb1.conv1.weight`)) blocks++;
  return {
    architecture: "RRDBNet",
    factor: growth / fold,
    sideMultiple: fold,
    // It looks at 15 more pixels with each block, but hardly: what lies farther away than this changes less than a level.
    context: 32,
    parameters: weights.parameters(prefix),
    valuesPerPixel: (3 * features * growth ** 2) / fold ** 2,
    graph: () => graph(weights, prefix, { features, denseFeatures, blocks, fold }),
  };
}

interface Sizes {
  features: number;
  denseFeatures: number;
  blocks: number;
  /** Pixels of each side that become one. */
  fold: number;
}

/** `image` [1, 3, h, w] in 0…1, h and w multiples of `fold` → `enlarged` [1, 3, 4 h / fold, 4 w / fold], not clipped. */
function graph(weights: WeightSource, prefix: string, { features, denseFeatures, blocks, fold }: Sizes): OnnxGraph {
  const g = new GraphBuilder("rrdb_net");
  const w = new WeightScope(g, weights, prefix);
  const image = g.input("image", "float32", [1, 3, "h", "w"]);
  const shallow = conv2d(w.at("conv_first"), fold === 1 ? image : g.pixelUnshuffle(image, fold), features, 3);
  let x = shallow;
  for (let i = 0; i < blocks; i++) x = block(w.at("body").at(i), x, denseFeatures);
  x = g.add(shallow, conv2d(w.at("conv_body"), x, features, 3));
  for (const name of ["conv_up1", "conv_up2"]) {
    x = g.leakyRelu(conv2d(w.at(name), g.upsampleNearest(x, 2), features, 3), slope);
  }
  x = g.leakyRelu(conv2d(w.at("conv_hr"), x, features, 3), slope);
  g.output("enlarged", conv2d(w.at("conv_last"), x, 3, 3));
  return g.build();
}

/** Three dense blocks in a row, around them a skip connection. */
function block(w: WeightScope, x: Value, denseFeatures: number): Value {
  const g = w.graph;
  let y = x;
  for (const name of ["rdb1", "rdb2", "rdb3"]) y = denseBlock(w.at(name), y, denseFeatures);
  return g.add(x, g.mul(y, residualShare));
}

/** Five convolutions, each of which sees what all before it found. */
function denseBlock(w: WeightScope, x: Value, denseFeatures: number): Value {
  const g = w.graph;
  const found = [x];
  for (let i = 1; i <= 4; i++) {
    const seen = i === 1 ? x : g.concat(found, 1);
    found.push(g.leakyRelu(conv2d(w.at(`conv${i}`), seen, denseFeatures, 3), slope));
  }
  const last = conv2d(w.at("conv5"), g.concat(found, 1), x.dims[1] as number, 3);
  return g.add(x, g.mul(last, residualShare));
}
