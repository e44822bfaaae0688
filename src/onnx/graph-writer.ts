/**
 * What every ONNX graph is made of: inputs, outputs, weights, nodes and the names between them. The operators are
 * `GraphBuilder`'s.
 *
 * Weights are external data: the graph points at byte ranges of files, and a tensor stored as F16 or BF16 is cast to
 * float32 by a node that ONNX Runtime folds away when it loads the model.
 */
import { dirname, basename } from "node:path";
import type { AttributeValue, Dim, DType, ModelProto, NodeProto, TensorProto, ValueInfo } from "./model-proto.ts";
import { bytesPerElement, encodeModel, onnxDataType } from "./model-proto.ts";

/** A tensor flowing through the graph. */
export interface Value extends ValueInfo {}

/** A tensor that lies in a file. */
export interface ExternalTensor {
  name: string;
  dtype: DType;
  shape: readonly number[];
  file: string;
  offset: number;
  length: number;
}

/** A tensor of floats in memory, for what cannot be read from a file as it is there. */
export interface InlineTensor {
  name: string;
  shape: readonly number[];
  data: Float32Array;
}

/** A finished graph. */
export interface OnnxGraph {
  /** An ONNX model file. */
  model: Uint8Array;
  /** The folder that its external data lies in; undefined when it has none. */
  externalDataDir: string | undefined;
  /** What the weights take in memory, in the element types that the graph computes with. */
  weightBytes: number;
  /** Names of the nodes that are attention as a whole. */
  attentionNodes?: readonly string[];
}

/** Of ONNX Runtime's own operators. */
export const onnxRuntimeDomain = "com.microsoft";

export class GraphWriter {
  protected readonly graphName: string;
  readonly #nodes: NodeProto[] = [];
  readonly #initializers: TensorProto[] = [];
  readonly #inputs: ValueInfo[] = [];
  readonly #outputs: ValueInfo[] = [];
  readonly #weights = new Map<string, Value>();
  readonly #attentionNodes: string[] = [];
  /** The same values in the other of the two float types, by name. */
  readonly #twins = new Map<string, Value>();
  #externalDataDir: string | undefined;
  #weightBytes = 0;
  #nextId = 0;

  constructor(graphName: string) {
    this.graphName = graphName;
  }

  // --- what goes in and out ---------------------------------------------------------------------------------------

  input(name: string, dtype: DType, dims: readonly Dim[]): Value {
    const value = { name, dtype, dims };
    this.#inputs.push(value);
    return value;
  }

  /** Half-precision values leave as float32. */
  output(name: string, value: Value): void {
    const result = this.float(value);
    this.#nodes.push({ opType: "Identity", domain: "", inputs: [result.name], outputs: [name], attributes: {} });
    this.#outputs.push({ ...result, name });
  }

  /** A weight, most often from a file; floats as float32 and integers as they are. Asking twice gives the same value. */
  weight(tensor: ExternalTensor | InlineTensor): Value {
    const known = this.#weights.get(tensor.name);
    if (known !== undefined) return known;
    if (!("file" in tensor)) {
      const value = this.constant(tensor.data, tensor.shape);
      this.#weights.set(tensor.name, value);
      return value;
    }
    const isShortFloat = tensor.dtype === "float16" || tensor.dtype === "bfloat16";
    const stored = this.#external(tensor, isShortFloat ? "float32" : tensor.dtype);
    const value = isShortFloat ? this.#cast(stored, "float32") : stored;
    this.#weights.set(tensor.name, value);
    return value;
  }

  /** A weight from a file that stays as it is stored there, such as a float16 one for products in half precision. */
  storedWeight(tensor: ExternalTensor): Value {
    const value = this.#weights.get(tensor.name) ?? this.#external(tensor, tensor.dtype);
    this.#weights.set(tensor.name, value);
    return value;
  }

  /** A constant inside the graph. */
  constant(data: Float32Array | BigInt64Array, dims: readonly number[]): Value {
    const size = dims.reduce((n, dim) => n * dim, 1);
    if (size !== data.length)
      throw new Error(`a constant of shape [${dims.join(", ")}] needs ${size} values, not ${data.length}`);
    const value: Value = {
      name: this.fresh("const"),
      dtype: data instanceof Float32Array ? "float32" : "int64",
      dims,
    };
    const bytes = new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
    this.#initializers.push({ ...value, dims, data: bytes });
    this.#weightBytes += bytes.length;
    return value;
  }

  build(): OnnxGraph {
    const model: ModelProto = {
      graphName: this.graphName,
      opsets: { "": 21, [onnxRuntimeDomain]: 1 },
      nodes: this.#nodes,
      initializers: this.#initializers,
      inputs: this.#inputs,
      outputs: this.#outputs,
    };
    return {
      model: encodeModel(model),
      externalDataDir: this.#externalDataDir,
      weightBytes: this.#weightBytes,
      attentionNodes: this.#attentionNodes,
    };
  }

  // --- float types ------------------------------------------------------------------------------------------------

  /** x as float32. */
  float(x: Value): Value {
    return this.#as("float32", x);
  }

  /** x as float16; magnitudes above 65504 become infinite. What came from float16 is taken from there. */
  half(x: Value): Value {
    return this.#as("float16", x);
  }

  #as(dtype: "float32" | "float16", x: Value): Value {
    if (x.dtype === dtype) return x;
    if (x.dtype !== "float32" && x.dtype !== "float16") throw new Error(`${x.name} holds ${x.dtype}, not floats`);
    const known = this.#twins.get(x.name);
    if (known !== undefined) return known;
    const twin = this.#cast(x, dtype);
    this.#twins.set(x.name, twin);
    this.#twins.set(twin.name, x);
    return twin;
  }

  // --- for operators ------------------------------------------------------------------------------------------------

  protected uint8Constant(value: number): Value {
    const name = this.fresh("const");
    this.#initializers.push({ name, dtype: "uint8", dims: [], data: new Uint8Array([value]) });
    return { name, dtype: "uint8", dims: [] };
  }

  /** A node with one output. */
  protected node(
    opType: string,
    inputs: readonly Value[],
    dtype: DType,
    dims: readonly Dim[],
    attributes: Readonly<Record<string, AttributeValue>> = {},
    domain = "",
  ): Value {
    const name = this.fresh(opType);
    this.#nodes.push({ opType, domain, inputs: inputs.map((value) => value.name), outputs: [name], attributes });
    return { name, dtype, dims };
  }

  /** A node as it is written, with inputs left out or several outputs. */
  protected addNode(node: NodeProto): void {
    this.#nodes.push(node);
  }

  /** Remembers that the node with this output is attention as a whole. */
  protected addAttention(name: string): void {
    this.#attentionNodes.push(name); // a node is called as its first output
  }

  /** A name that nothing else has. */
  protected fresh(kind: string): string {
    return `${kind}_${this.#nextId++}`;
  }

  protected staticDim(x: Value, axis: number): number {
    const dim = x.dims.at(axis);
    if (typeof dim !== "number") throw new Error(`${x.name} needs a fixed size on axis ${axis}, not ${dim}`);
    return dim;
  }

  protected expectDim(x: Value, axis: number, expected: Dim, what: string): void {
    const dim = x.dims.at(axis);
    if (dim !== expected)
      throw new Error(`${what} in ${this.graphName} expects ${expected} on axis ${axis}, not ${dim}`);
  }

  // --- inside ----------------------------------------------------------------------------------------------------------

  #cast(x: Value, dtype: DType): Value {
    return this.node("Cast", [x], dtype, x.dims, { to: int(onnxDataType[dtype]) });
  }

  /** A tensor of a file, which takes a value of `loadedType` for each of its own in memory. */
  #external(tensor: ExternalTensor, loadedType: DType): Value {
    const { name, dtype, shape, offset, length } = tensor;
    const dir = dirname(tensor.file);
    this.#externalDataDir ??= dir;
    if (dir !== this.#externalDataDir) throw new Error(`one graph's weights lie in two folders: ${name}`);
    this.#initializers.push({ name, dtype, dims: shape, data: { location: basename(tensor.file), offset, length } });
    this.#weightBytes += shape.reduce((n, dim) => n * dim, bytesPerElement[loadedType]);
    return { name, dtype, dims: shape };
  }
}

export const int = (value: number): AttributeValue => ({ kind: "int", value });
export const float = (value: number): AttributeValue => ({ kind: "float", value });
export const ints = (value: readonly number[]): AttributeValue => ({ kind: "ints", value });
