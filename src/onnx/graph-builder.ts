/**
 * Builds ONNX graphs with typed operators. A network is a function that calls these; shapes are inferred and checked as the
 * graph is written, so that a mistake fails here with a sentence, not in the runtime with a node number.
 *
 * Half precision is for products alone: a `linear` with a float16 weight and an `attention` over float16 values are computed
 * in it, and everything between is float32. What overflows 65504 in FLUX and T5, or loses too much with ten bits, is just
 * that: the residual stream, norms, gates, rotary angles, the activation functions' cubes. The casts around the products
 * cost a pass over the activations each, a few per cent of a step by the bytes that they move; no product is widened.
 *
 * Besides standard operators (opset 21) it uses ONNX Runtime's own for what the standard set lacks a fast kernel for:
 * RMS norm, rotary embedding and attention
 * (https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md).
 */
import type { Dim } from "./model-proto.ts";
import { float, GraphWriter, int, ints, onnxRuntimeDomain, type Value } from "./graph-writer.ts";

export type { ExternalTensor, InlineTensor, OnnxGraph, Value } from "./graph-writer.ts";

export class GraphBuilder extends GraphWriter {
  readonly #quantized = new Map<string, { values: Value; scale: Value }>();

  // --- arithmetic ---------------------------------------------------------------------------------------------------

  /** a + b, broadcasting as NumPy does. */
  add(a: Value, b: Value | number): Value {
    return this.#binary("Add", a, b);
  }

  /** a · b, broadcasting as NumPy does. */
  mul(a: Value, b: Value | number): Value {
    return this.#binary("Mul", a, b);
  }

  sigmoid(x: Value): Value {
    return this.node("Sigmoid", [this.float(x)], "float32", x.dims);
  }

  /** x · sigmoid(x) */
  silu(x: Value): Value {
    return this.mul(x, this.sigmoid(x));
  }

  /** x · sigmoid(1.702 x), OpenAI CLIP's approximation of GELU. */
  quickGelu(x: Value): Value {
    return this.mul(x, this.sigmoid(this.mul(x, 1.702)));
  }

  /** GELU (Hendrycks & Gimpel 2016), exact or by its tanh approximation. */
  gelu(x: Value, approximate: "none" | "tanh"): Value {
    const attributes = { approximate: { kind: "string", value: approximate } } as const;
    return this.node("Gelu", [this.float(x)], "float32", x.dims, attributes);
  }

  relu(x: Value): Value {
    return this.node("Relu", [this.float(x)], "float32", x.dims);
  }

  /** x where it is positive, `slope` · x elsewhere. */
  leakyRelu(x: Value, slope: number): Value {
    return this.node("LeakyRelu", [x], x.dtype, x.dims, { alpha: float(slope) });
  }

  /** `leakyRelu` with a learnt slope for each channel (He et al. 2015): x [B, C, H, W], slopes [C] */
  prelu(x: Value, slopes: Value): Value {
    const perChannel = [this.staticDim(x, 1), 1, 1];
    return this.node("PRelu", [x, this.reshape(slopes, perChannel, perChannel)], x.dtype, x.dims);
  }

  /** x Wᵀ + b, as torch.nn.Linear: x [..., in], weight [out, in], bias [out] → [..., out] */
  linear(x: Value, weight: Value, bias?: Value): Value {
    return this.#matmul(this.float(x), this.transpose(weight, [1, 0]), bias, "linear");
  }

  /** `linear` in half precision, with a float16 weight [in, out] → float16 [..., out] */
  linearHalf(x: Value, weight: Value, bias?: Value): Value {
    return this.#matmul(this.half(x), weight, bias && this.half(bias), "linearHalf");
  }

  /** x [..., C] with each token divided by its largest magnitude, and these magnitudes [..., 1]. */
  normalizeTokens(x: Value): { values: Value; scale: Value } {
    const wide = this.float(x);
    const scale = this.#largestOfTokens(wide);
    return { values: this.node("Div", [wide, scale], "float32", x.dims), scale };
  }

  /**
   * `linear` with an int8 weight [in, out] and one scale [out] for each output. Each token of x [..., in] is quantized to
   * 8 bits with a scale of its own, since a few tokens of FLUX are far larger than the rest (LLM.int8, Dettmers et al. 2022).
   */
  linearInt8(x: Value, weight: Value, weightScale: Value, bias?: Value): Value {
    const [inFeatures, outFeatures] = weight.dims;
    this.expectDim(x, -1, inFeatures!, "linearInt8");
    const { values, scale } = this.#quantizeTokens(x);
    const one = this.constant(new Float32Array([1]), []);
    const zeroPoint = this.uint8Constant(128);
    const dims = [...x.dims.slice(0, -1), outFeatures!];
    const inputs = [values, weight, one, weightScale, zeroPoint];
    const product = this.node("MatMulIntegerToFloat", inputs, "float32", dims, {}, onnxRuntimeDomain);
    const scaled = this.mul(product, scale);
    return bias === undefined ? scaled : this.add(scaled, bias);
  }

  /**
   * `linear` with a 4-bit weight [out, blocks, block / 2] around 8, two values a byte, and one scale [out · blocks] for each
   * block of a row. x [..., in] is quantized to 8 bits inside, with a scale for each block of a token.
   */
  linearInt4(x: Value, weight: Value, weightScale: Value, bias?: Value): Value {
    const [outFeatures, blocks, blockBytes] = weight.dims as [number, number, number];
    const inFeatures = this.staticDim(x, -1);
    const blockSize = 2 * blockBytes;
    if (Math.ceil(inFeatures / blockSize) !== blocks)
      throw new Error(`linearInt4 in ${this.graphName} got ${blocks} blocks of ${blockSize} for ${inFeatures} inputs`);
    const output: Value = {
      name: this.fresh("MatMulNBits"),
      dtype: x.dtype,
      dims: [...x.dims.slice(0, -1), outFeatures],
    };
    const inputs = [x, weight, weightScale].map((value) => value.name);
    this.addNode({
      opType: "MatMulNBits",
      domain: onnxRuntimeDomain,
      inputs: bias === undefined ? inputs : [...inputs, "", "", bias.name],
      outputs: [output.name],
      attributes: {
        K: int(inFeatures),
        N: int(outFeatures),
        bits: int(4),
        block_size: int(blockSize),
        accuracy_level: int(4), // products of 8-bit integers; lower levels compute in float, more slowly
      },
    });
    return output;
  }

  // --- normalization --------------------------------------------------------------------------------------------------

  /** Layer norm over the last axis (Ba et al. 2016); without weights, the plain normalization. */
  layerNorm(x: Value, epsilon: number, weight?: Value, bias?: Value): Value {
    const width = this.staticDim(x, -1);
    const scale = weight ?? this.constant(new Float32Array(width).fill(1), [width]);
    const inputs = [x, scale, ...(bias === undefined ? [] : [bias])].map((value) => this.float(value));
    return this.node("LayerNormalization", inputs, "float32", x.dims, { axis: int(-1), epsilon: float(epsilon) });
  }

  /** x / rms(x) · weight over the last axis (Zhang & Sennrich 2019). */
  rmsNorm(x: Value, weight: Value, epsilon: number): Value {
    return this.node("SimplifiedLayerNormalization", [this.float(x), weight], "float32", x.dims, {
      axis: int(-1),
      epsilon: float(epsilon),
      stash_type: int(1),
    });
  }

  /** Group norm (Wu & He 2018): x [B, C, H, W], weight and bias [C] */
  groupNorm(x: Value, groups: number, epsilon: number, weight: Value, bias: Value): Value {
    const channels = this.staticDim(x, 1);
    const grouped = this.reshape(x, [0, groups, -1], [x.dims[0]!, groups, "group_elements"]);
    const ones = this.constant(new Float32Array(groups).fill(1), [groups]);
    const zeros = this.constant(new Float32Array(groups), [groups]);
    const normalized = this.node("InstanceNormalization", [grouped, ones, zeros], x.dtype, grouped.dims, {
      epsilon: float(epsilon),
    });
    const restored = this.reshapeLike(normalized, x);
    const perChannel = [channels, 1, 1];
    return this.add(
      this.mul(restored, this.reshape(weight, perChannel, perChannel)),
      this.reshape(bias, perChannel, perChannel),
    );
  }

  // --- convolution ------------------------------------------------------------------------------------------------------

  /**
   * 2-D convolution: x [B, in, H, W], weight [out, in, k, k], bias [out] → [B, out, H', W'].
   * `pads` are [top, left, bottom, right] in pixels.
   */
  conv2d(
    x: Value,
    weight: Value,
    bias: Value,
    options: { stride?: number; pads?: readonly [number, number, number, number] } = {},
  ): Value {
    const [outChannels, inChannels, kernelHeight, kernelWidth] = weight.dims as number[];
    this.expectDim(x, 1, inChannels!, "conv2d");
    const stride = options.stride ?? 1;
    const pads = options.pads ?? [0, 0, 0, 0];
    const height = convolvedDim(x.dims[2]!, kernelHeight!, stride, pads[0] + pads[2]);
    const width = convolvedDim(x.dims[3]!, kernelWidth!, stride, pads[1] + pads[3]);
    return this.node("Conv", [x, weight, bias], x.dtype, [x.dims[0]!, outChannels!, height, width], {
      kernel_shape: ints([kernelHeight!, kernelWidth!]),
      strides: ints([stride, stride]),
      pads: ints(pads),
    });
  }

  /** `factor` times the height and width, each pixel repeated: x [B, C, H, W] → [B, C, factor · H, factor · W] */
  upsampleNearest(x: Value, factor: number): Value {
    const scales = this.constant(new Float32Array([1, 1, factor, factor]), [4]);
    const dims = [x.dims[0]!, x.dims[1]!, scaledDim(x.dims[2]!, factor), scaledDim(x.dims[3]!, factor)];
    const output = { name: this.fresh("Resize"), dtype: x.dtype, dims };
    this.addNode({
      opType: "Resize",
      domain: "",
      inputs: [x.name, "", scales.name],
      outputs: [output.name],
      attributes: {
        mode: { kind: "string", value: "nearest" },
        coordinate_transformation_mode: { kind: "string", value: "asymmetric" },
        nearest_mode: { kind: "string", value: "floor" },
      },
    });
    return output;
  }

  /** Channels become pixels, as torch.nn.PixelShuffle: x [B, C · r², H, W] → [B, C, r · H, r · W] (Shi et al. 2016) */
  pixelShuffle(x: Value, r: number): Value {
    const [batch, , height, width] = x.dims;
    const dims = [batch!, this.staticDim(x, 1) / r ** 2, scaledDim(height!, r), scaledDim(width!, r)];
    return this.node("DepthToSpace", [x], x.dtype, dims, {
      blocksize: int(r),
      mode: { kind: "string", value: "CRD" },
    });
  }

  /** r² pictures [B, C, H, W] woven into one [B, C, r · H, r · W]: the first has the top left pixel of each block, the next one its neighbour. */
  weavePixels(phases: readonly Value[], r: number): Value {
    const [batch, channels, height, width] = phases[0]!.dims;
    const dims = [batch!, channels!, scaledDim(height!, r), scaledDim(width!, r)];
    return this.node("DepthToSpace", [this.concat(phases, 1)], phases[0]!.dtype, dims, {
      blocksize: int(r),
      mode: { kind: "string", value: "DCR" },
    });
  }

  /** The reverse of `pixelShuffle`, as torch.nn.PixelUnshuffle: x [B, C, H, W], H and W multiples of r → [B, C · r², H / r, W / r] */
  pixelUnshuffle(x: Value, r: number): Value {
    const [batch, , height, width] = x.dims;
    const channels = this.staticDim(x, 1);
    const dims = [batch!, channels * r ** 2, dividedDim(height!, r), dividedDim(width!, r)];
    const blocks = this.node("SpaceToDepth", [x], x.dtype, dims, { blocksize: int(r) });
    // ONNX counts a block's pixels before the channels, torch the channels before the pixels.
    const apart = this.reshape(blocks, [0, r ** 2, channels, -1], [batch!, r ** 2, channels, "small_pixels"]);
    return this.reshapeLike(this.transpose(apart, [0, 2, 1, 3]), blocks);
  }

  // --- attention ------------------------------------------------------------------------------------------------------

  /**
   * Scaled dot-product attention (Vaswani et al. 2017): q [B, L, H·D], k and v [B, S, H·D] → [B, L, H·D].
   * `bias` [1 or B, 1 or H, L, S] is added to the scores; `causal` hides later positions. `scale` defaults to 1/√D. Where v is
   * float16, all of it is computed in half precision.
   */
  attention(
    q: Value,
    k: Value,
    v: Value,
    options: { heads: number; scale?: number; bias?: Value; causal?: boolean },
  ): Value {
    const output = { name: this.fresh("MultiHeadAttention"), dtype: v.dtype, dims: q.dims };
    const sameType = (x: Value) => (v.dtype === "float16" ? this.half(x) : this.float(x)).name;
    const inputs = [sameType(q), sameType(k), v.name];
    if (options.bias !== undefined) inputs.push("", "", sameType(options.bias));
    this.addAttention(output.name);
    this.addNode({
      opType: "MultiHeadAttention",
      domain: onnxRuntimeDomain,
      inputs,
      outputs: [output.name],
      attributes: {
        num_heads: int(options.heads),
        ...(options.scale === undefined ? {} : { scale: float(options.scale) }),
        ...(options.causal === true ? { unidirectional: int(1) } : {}),
      },
    });
    return output;
  }

  /**
   * Rotary position embedding over neighbouring pairs (Su et al. 2021): x [B, L, H·D], cos and sin [L, D/2], one row a
   * position.
   */
  rotaryEmbedding(x: Value, cos: Value, sin: Value, heads: number): Value {
    const firstPosition = this.constant(new BigInt64Array([0n]), [1]);
    return this.node(
      "RotaryEmbedding",
      [this.float(x), firstPosition, cos, sin],
      "float32",
      x.dims,
      { interleaved: int(1), num_heads: int(heads) },
      onnxRuntimeDomain,
    );
  }

  // --- shape ---------------------------------------------------------------------------------------------------------

  /** A reshape; in `shape`, 0 keeps the dimension at that place and −1 takes what is left. `dims` is what comes out. */
  reshape(x: Value, shape: readonly number[], dims: readonly Dim[]): Value {
    const target = this.constant(BigInt64Array.from(shape, BigInt), [shape.length]);
    return this.node("Reshape", [x, target], x.dtype, dims);
  }

  /** x with the shape of `like`, whatever its sizes turn out to be. */
  reshapeLike(x: Value, like: Value): Value {
    return this.node("Reshape", [x, this.node("Shape", [like], "int64", [like.dims.length])], x.dtype, like.dims);
  }

  transpose(x: Value, permutation: readonly number[]): Value {
    const dims = permutation.map((axis) => x.dims[axis]!);
    return this.node("Transpose", [x], x.dtype, dims, { perm: ints(permutation) });
  }

  concat(values: readonly Value[], axis: number): Value {
    if (values.some(({ dtype }) => dtype !== values[0]!.dtype)) values = values.map((value) => this.float(value));
    const [first] = values;
    const at = axis < 0 ? axis + first!.dims.length : axis;
    const sizes = values.map((value) => value.dims[at]!);
    const size = sizes.every((dim) => typeof dim === "number") ? sizes.reduce((a, b) => a + b, 0) : sizes.join("+");
    const dims = first!.dims.map((dim, i) => (i === at ? size : dim));
    return this.node("Concat", values, first!.dtype, dims, { axis: int(at) });
  }

  /** `parts` equal pieces along the last axis. */
  chunk(x: Value, parts: number): Value[] {
    const width = this.staticDim(x, -1) / parts;
    const outputs = Array.from({ length: parts }, (): Value => {
      return { name: this.fresh("Split"), dtype: x.dtype, dims: [...x.dims.slice(0, -1), width] };
    });
    this.addNode({
      opType: "Split",
      domain: "",
      inputs: [x.name],
      outputs: outputs.map((value) => value.name),
      attributes: { axis: int(-1), num_outputs: int(parts) },
    });
    return outputs;
  }

  /** Cuts x [B, a + b, C] into [B, a, C] and [B, b, C], where a is `first`'s length on that axis. */
  splitSequence(x: Value, first: Value, restDim: Dim): [Value, Value] {
    const zero = this.constant(new BigInt64Array([0n]), [1]);
    const end = this.constant(new BigInt64Array([BigInt("0x7fffffffffffffff")]), [1]);
    const axis = this.constant(new BigInt64Array([1n]), [1]);
    const cut = this.node("Shape", [first], "int64", [1], { start: int(1), end: int(2) });
    const [batch, , width] = x.dims;
    return [
      this.node("Slice", [x, zero, cut, axis], x.dtype, [batch!, first.dims[1]!, width!]),
      this.node("Slice", [x, cut, end, axis], x.dtype, [batch!, restDim, width!]),
    ];
  }

  /** Rows of a table: table [N, C], indices [...] → [..., C] */
  gather(table: Value, indices: Value): Value {
    return this.node("Gather", [table, indices], table.dtype, [...indices.dims, ...table.dims.slice(1)], {
      axis: int(0),
    });
  }

  // --- inside ----------------------------------------------------------------------------------------------------------

  /** x [..., C] as uint8 around 128, and each token's scale [..., 1]: x ≈ (values − 128) · scale. Once for each x. */
  #quantizeTokens(x: Value): { values: Value; scale: Value } {
    const known = this.#quantized.get(x.name);
    if (known !== undefined) return known;
    const scale = this.mul(this.#largestOfTokens(x), 1 / 127);
    const relative = this.node("Div", [x, scale], x.dtype, x.dims);
    const one = this.constant(new Float32Array([1]), []);
    const values = this.node("QuantizeLinear", [relative, one, this.uint8Constant(128)], "uint8", x.dims);
    const result = { values, scale };
    this.#quantized.set(x.name, result);
    return result;
  }

  /** The largest magnitude in each token of x [..., C] → [..., 1]; above zero, so that everything can be divided by it. */
  #largestOfTokens(x: Value): Value {
    const lastAxis = this.constant(new BigInt64Array([-1n]), [1]);
    const perToken = [...x.dims.slice(0, -1), 1];
    const largest = this.node("ReduceMax", [this.node("Abs", [x], x.dtype, x.dims), lastAxis], x.dtype, perToken);
    const floor = this.constant(new Float32Array([1e-12]), []);
    return this.node("Max", [largest, floor], x.dtype, perToken);
  }

  #binary(opType: "Add" | "Mul", a: Value, b: Value | number): Value {
    const left = this.float(a);
    const right = typeof b === "number" ? this.constant(new Float32Array([b]), []) : this.float(b);
    return this.node(opType, [left, right], "float32", broadcast(left, right, opType));
  }

  /** x [..., in] times weight [in, out] in their common type, and the bias in that too. */
  #matmul(x: Value, weight: Value, bias: Value | undefined, what: string): Value {
    const [inFeatures, outFeatures] = weight.dims;
    this.expectDim(x, -1, inFeatures!, what);
    const product = this.node("MatMul", [x, weight], x.dtype, [...x.dims.slice(0, -1), outFeatures!]);
    return bias === undefined ? product : this.node("Add", [product, bias], x.dtype, product.dims);
  }
}

function broadcast(a: Value, b: Value, what: string): Dim[] {
  const rank = Math.max(a.dims.length, b.dims.length);
  const padded = (value: Value): Dim[] => [...Array<Dim>(rank - value.dims.length).fill(1), ...value.dims];
  const left = padded(a);
  const right = padded(b);
  return left.map((dim, i) => {
    const other = right[i]!;
    if (dim === other || other === 1) return dim;
    if (dim === 1) return other;
    throw new Error(`${what} cannot broadcast [${a.dims.join(", ")}] with [${b.dims.join(", ")}]`);
  });
}

function convolvedDim(dim: Dim, kernel: number, stride: number, padding: number): Dim {
  if (typeof dim === "number") return Math.floor((dim + padding - kernel) / stride) + 1;
  return stride === 1 && padding === kernel - 1 ? dim : `${dim}/${stride}`;
}

function scaledDim(dim: Dim, factor: number): Dim {
  return typeof dim === "number" ? dim * factor : `${factor}*${dim}`;
}

function dividedDim(dim: Dim, factor: number): Dim {
  return typeof dim === "number" ? dim / factor : `${dim}/${factor}`;
}
