/** What a network's graph asks of its weights, whether they are mapped from their files or were converted first. */
import type { ExternalTensor, InlineTensor } from "../onnx/graph-builder.ts";

/** The weight of a linear layer, [out, in] in the checkpoint. */
export type LinearWeight = (
  | { format: "float"; weight: ExternalTensor | InlineTensor }
  /** float16, for products in half precision; `transposed` is [in, out]. */
  | { format: "fp16"; weight: ExternalTensor; transposed: boolean }
  /** `values` int8 [in, out], each column to be multiplied by its `scale` [out]. */
  | { format: "int8"; values: ExternalTensor; scale: ExternalTensor }
  /** `values` uint8 [out, blocks, int4Block / 2] and `scale` [out · blocks], as `quantizeInt4` makes them. */
  | { format: "int4"; values: ExternalTensor; scale: ExternalTensor }
) & {
  /** What is added to the layer's output. */
  adapters?: readonly LowRankAdapter[];
};

/** A low-rank change of a linear layer: x → x downᵀ upᵀ, its scale folded into `up`. */
export interface LowRankAdapter {
  rank: number;
  /** [rank, in] */
  down: Float32Array;
  /** [out, rank] */
  up: Float32Array;
}

export interface LinearOptions {
  /** Keeps the weight in float, whatever the precision of the others. */
  exact?: boolean;
}

export interface NetworkWeights {
  has(name: string): boolean;

  /** A tensor of floats. Throws `ModelInvalidError` when it is missing or has another shape. */
  get(name: string, shape: readonly number[]): ExternalTensor | InlineTensor;

  /** The weight of a linear layer, in the format of these weights. Throws as `get` does. */
  linear(name: string, shape: LinearShape, options?: LinearOptions): LinearWeight;
}

export type LinearShape = readonly [outFeatures: number, inFeatures: number];
