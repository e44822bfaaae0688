/** The layers that every network is made of, each reading its weights from a scope named as in the checkpoint. */
import type { GraphBuilder, Value } from "../onnx/graph-builder.ts";
import type { LinearWeight, NetworkWeights } from "../weights/network-weights.ts";

/** The weights under a prefix, entering one graph. */
export class WeightScope {
  readonly graph: GraphBuilder;
  readonly #source: NetworkWeights;
  readonly #prefix: string;

  constructor(graph: GraphBuilder, source: NetworkWeights, prefix = "") {
    this.graph = graph;
    this.#source = source;
    this.#prefix = prefix;
  }

  /** The scope of a child module. */
  at(name: string | number): WeightScope {
    return new WeightScope(this.graph, this.#source, `${this.#prefix}${name}.`);
  }

  /** @throws ModelInvalidError when the tensor is missing or has another shape. */
  weight(name: string, shape: readonly number[]): Value {
    return this.graph.weight(this.#source.get(this.#prefix + name, shape));
  }

  /** torch.nn.Linear, in the format of the weights and with their adapters: x [..., in] → [..., out] */
  linear(x: Value, outFeatures: number, options: { bias: boolean; exact: boolean; wide: boolean }): Value {
    const g = this.graph;
    const inFeatures = x.dims.at(-1) as number;
    const bias = options.bias ? this.weight("bias", [outFeatures]) : undefined;
    const stored = this.#source.linear(`${this.#prefix}weight`, [outFeatures, inFeatures], options);
    if (stored.format === "fp16" && options.wide) {
      const { values, scale } = g.normalizeTokens(x);
      const y = g.mul(adaptedProduct(g, values, stored, undefined), scale);
      return bias === undefined ? y : g.add(y, bias);
    }
    return adaptedProduct(g, x, stored, bias);
  }

  has(name: string): boolean {
    return this.#source.has(this.#prefix + name);
  }
}

function adaptedProduct(g: GraphBuilder, x: Value, weight: LinearWeight, bias: Value | undefined): Value {
  const exact = product(g, x, weight, bias);
  let y = exact;
  for (const { rank, down, up } of weight.adapters ?? []) {
    const narrow = g.linear(x, g.constant(down, [rank, x.dims.at(-1) as number]));
    y = g.add(y, g.linear(narrow, g.constant(up, [exact.dims.at(-1) as number, rank])));
  }
  return exact.dtype === "float16" ? g.half(y) : y; // attention looks at its values' type
}

function product(g: GraphBuilder, x: Value, weight: LinearWeight, bias: Value | undefined): Value {
  switch (weight.format) {
    case "float":
      return g.linear(x, g.weight(weight.weight), bias);
    case "fp16": {
      const stored = g.storedWeight(weight.weight);
      return g.linearHalf(x, weight.transposed ? stored : g.transpose(stored, [1, 0]), bias);
    }
    case "int8":
      return g.linearInt8(x, g.weight(weight.values), g.weight(weight.scale), bias);
    case "int4":
      return g.linearInt4(x, g.weight(weight.values), g.weight(weight.scale), bias);
  }
}

export interface LinearLayerOptions {
  /** Default true. */
  bias?: boolean;
  /**
   * Whether its inputs or outputs are known to leave half precision's range: then each token is brought to a magnitude of 1 for
   * the product, and back afterwards. Default false.
   */
  wide?: boolean;
}

/** torch.nn.Linear, in the precision of the weights: x [..., in] → [..., out] */
export function linear(w: WeightScope, x: Value, outFeatures: number, options: LinearLayerOptions = {}): Value {
  return w.linear(x, outFeatures, { bias: true, wide: false, ...options, exact: false });
}

/** torch.nn.Linear in float whatever the precision: for the few small layers that everything else passes through. */
export function exactLinear(w: WeightScope, x: Value, outFeatures: number): Value {
  return w.linear(x, outFeatures, { bias: true, exact: true, wide: false });
}

/** torch.nn.LayerNorm with weight and bias. */
export function layerNorm(w: WeightScope, x: Value, epsilon: number): Value {
  const width = x.dims.at(-1) as number;
  return w.graph.layerNorm(x, epsilon, w.weight("weight", [width]), w.weight("bias", [width]));
}

/** RMS norm over each head: x [B, L, H·D] with a weight [D] → [B, L, H·D] */
export function headRmsNorm(w: WeightScope, x: Value, heads: number, epsilon: number): Value {
  const g = w.graph;
  const [batch, length, width] = x.dims;
  const headDim = (width as number) / heads;
  const perHead = g.reshape(x, [0, 0, heads, headDim], [batch!, length!, heads, headDim]); // [B, L, H, D]
  const normalized = g.rmsNorm(perHead, w.weight("weight", [headDim]), epsilon);
  return g.reshape(normalized, [0, 0, -1], x.dims);
}

/** torch.nn.Conv2d with a square kernel and "same" padding unless `pads` says otherwise: x [B, in, H, W] → [B, out, H', W'] */
export function conv2d(
  w: WeightScope,
  x: Value,
  outChannels: number,
  kernel: 1 | 3,
  options: { stride?: number; pads?: readonly [number, number, number, number] } = {},
): Value {
  const inChannels = x.dims[1] as number;
  const pad = (kernel - 1) / 2;
  const weight = w.weight("weight", [outChannels, inChannels, kernel, kernel]);
  return w.graph.conv2d(x, weight, w.weight("bias", [outChannels]), { pads: [pad, pad, pad, pad], ...options });
}

/**
 * A 3 × 3 convolution of x enlarged twice, each pixel repeated: x [B, in, H, W] → [B, out, 2H, 2W]. Since what the kernel meets there are
 * the same pixels again, it is done on x, by four kernels of 2 × 2 for the four pixels that come from each, in 16 multiplications instead of 36.
 */
export function conv2dOfEnlarged(w: WeightScope, x: Value, outChannels: number): Value {
  const g = w.graph;
  const inChannels = x.dims[1] as number;
  const kernels = g.reshape(
    w.weight("weight", [outChannels, inChannels, 3, 3]),
    [-1, 9],
    [outChannels * inChannels, 9],
  );
  const bias = w.weight("bias", [outChannels]);
  const phases = g.chunk(g.linear(kernels, g.constant(phaseTaps(), [16, 9])), 4).map((taps, phase) => {
    const shape = [outChannels, inChannels, 2, 2];
    const [bottom, right] = [phase >> 1, phase & 1];
    return g.conv2d(x, g.reshape(taps, shape, shape), bias, { pads: [1 - bottom, 1 - right, bottom, right] });
  });
  return g.weavePixels(phases, 2);
}

/**
 * Which of the 3 × 3 taps fall together: [4 phases × 2 × 2, 3 × 3]. Of the two rows that a kernel meets, the upper phases have one tap in
 * the first and two in the second, the lower ones two and one; columns likewise.
 */
function phaseTaps(): Float32Array {
  const taps = new Float32Array(16 * 9);
  for (let phase = 0; phase < 4; phase++) {
    for (let tap = 0; tap < 9; tap++) {
      const row = Math.floor(tap / 3) > phase >> 1 ? 1 : 0;
      const column = tap % 3 > (phase & 1) ? 1 : 0;
      const place = 2 * row + column;
      taps[(4 * phase + place) * 9 + tap] = 1;
    }
  }
  return taps;
}

/** torch.nn.GroupNorm: x [B, C, H, W] */
export function groupNorm(w: WeightScope, x: Value, groups: number, epsilon: number): Value {
  const channels = x.dims[1] as number;
  return w.graph.groupNorm(x, groups, epsilon, w.weight("weight", [channels]), w.weight("bias", [channels]));
}
