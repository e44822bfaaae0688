/** Which enlarging network a file of weights holds, and what whoever runs it must know. */
import { basename, extname } from "node:path";
import { ModelInvalidError } from "../errors.ts";
import type { OnnxGraph } from "../onnx/graph-builder.ts";
import { withoutEsrganNames } from "../weights/esrgan-names.ts";
import { readSafetensorsHeader } from "../weights/safetensors.ts";
import { asMappable } from "../weights/tensor-location.ts";
import { WeightSource } from "../weights/weight-source.ts";
import { rrdbNet } from "./rrdb-net.ts";
import { srvggNet } from "./srvgg-net.ts";

export interface UpscalerNetwork {
  architecture: "SRVGGNetCompact" | "RRDBNet";
  /** How many times as long each side becomes. */
  factor: number;
  /** Both sides of its input must be multiples of this. */
  sideMultiple: number;
  /** Pixels around a pixel that have a say in what becomes of it. */
  context: number;
  /** Of all its layers. */
  parameters: number;
  /** About how many floats it holds at once for each pixel of its input. */
  valuesPerPixel: number;
  /** `image` [1, 3, h, w] in 0…1 → `enlarged` [1, 3, factor · h, factor · w], not clipped. */
  graph: () => OnnxGraph;
}

/** Under which published files keep their weights: the averaged ones come first. */
const prefixes = ["params_ema.", "params.", ""];

/**
 * The network in a safetensors file of Real-ESRGAN's kind.
 *
 * @throws WeightsInvalidError when the file is damaged.
 * @throws ModelInvalidError when it holds no network that Easel can enlarge with.
 */
export function readUpscalerNetwork(file: string): UpscalerNetwork {
  refusePickle(file);
  const weights = new WeightSource(withoutEsrganNames(readSafetensorsHeader(file)), basename(file));
  const refuse = (problem: string): never => {
    throw new ModelInvalidError(`${basename(file)} ${problem}.`);
  };
  for (const prefix of prefixes) {
    const network = rrdbNet(weights, prefix) ?? srvggNet(weights, prefix);
    if (network === undefined) continue;
    if (weights.tensors().some((tensor) => asMappable(tensor) === undefined))
      refuse("keeps its weights in a form that Easel cannot enlarge with; convert it to float16");
    if (network.factor < 2) refuse("restores pictures at their own size and enlarges nothing");
    return network;
  }
  return refuse("holds no network that Easel can enlarge with; RRDBNet and SRVGGNetCompact of Real-ESRGAN are known");
}

const pickleExtensions = [".pth", ".pt", ".ckpt", ".bin"];

/** A pickle is a program: reading one would run whatever its author put into it. */
function refusePickle(file: string): void {
  if (!pickleExtensions.includes(extname(file).toLowerCase())) return;
  const name = basename(file);
  const converted = `${basename(file, extname(file))}.safetensors`;
  throw new ModelInvalidError(
    `${name} is a pickle, which can run programs when it is read; convert it once with Python where you trust it: ` +
      `import torch, safetensors.torch as s; w = torch.load("${name}", weights_only=True); ` +
      `w = w.get("params_ema", w.get("params", w)); s.save_file(w, "${converted}")`,
  );
}
