/**
 * Writes ONNX models: the few protobuf messages of `onnx.proto` that a graph needs, field numbers as published there.
 * A writer only: nothing is ever parsed here.
 */

/** Element types, with ONNX's numbers for them (TensorProto.DataType). */
export const onnxDataType = {
  float32: 1,
  uint8: 2,
  int8: 3,
  int32: 6,
  int64: 7,
  bool: 9,
  float16: 10,
  bfloat16: 16,
} as const;
export type DType = keyof typeof onnxDataType;

/** Bytes of one element. */
export const bytesPerElement: Readonly<Record<DType, number>> = {
  float32: 4,
  uint8: 1,
  int8: 1,
  int32: 4,
  int64: 8,
  bool: 1,
  float16: 2,
  bfloat16: 2,
};

/** A dimension: a number, or the name of a size that is known only when the graph runs. */
export type Dim = number | string;

export type AttributeValue =
  | { kind: "int"; value: number }
  | { kind: "float"; value: number }
  | { kind: "string"; value: string }
  | { kind: "ints"; value: readonly number[] };

export interface NodeProto {
  opType: string;
  /** "" is the standard operator set. */
  domain: string;
  inputs: readonly string[];
  outputs: readonly string[];
  attributes: Readonly<Record<string, AttributeValue>>;
}

export interface TensorProto {
  name: string;
  dtype: DType;
  dims: readonly number[];
  /** The bytes themselves (little-endian), or where they lie: a file in the model's folder. */
  data: Uint8Array | { location: string; offset: number; length: number };
}

export interface ValueInfo {
  name: string;
  dtype: DType;
  dims: readonly Dim[];
}

export interface ModelProto {
  graphName: string;
  opsets: Readonly<Record<string, number>>;
  nodes: readonly NodeProto[];
  initializers: readonly TensorProto[];
  inputs: readonly ValueInfo[];
  outputs: readonly ValueInfo[];
}

/** `model` as the bytes of an `.onnx` file (IR version 10, ONNX 1.16). */
export function encodeModel(model: ModelProto): Uint8Array {
  const w = new ProtoWriter();
  w.int(1, 10);
  w.string(2, "easel");
  w.message(7, (graph) => {
    for (const node of model.nodes) graph.message(1, (m) => writeNode(m, node));
    graph.string(2, model.graphName);
    for (const tensor of model.initializers) graph.message(5, (m) => writeTensor(m, tensor));
    for (const value of model.inputs) graph.message(11, (m) => writeValueInfo(m, value));
    for (const value of model.outputs) graph.message(12, (m) => writeValueInfo(m, value));
  });
  for (const [domain, version] of Object.entries(model.opsets)) {
    w.message(8, (m) => {
      m.string(1, domain);
      m.int(2, version);
    });
  }
  return w.bytes();
}

function writeNode(m: ProtoWriter, node: NodeProto): void {
  for (const input of node.inputs) m.string(1, input);
  for (const output of node.outputs) m.string(2, output);
  m.string(3, node.outputs[0]!); // its name, by which a session can be told where to run it
  m.string(4, node.opType);
  for (const [name, attribute] of Object.entries(node.attributes)) {
    m.message(5, (a) => {
      a.string(1, name);
      writeAttributeValue(a, attribute);
    });
  }
  if (node.domain !== "") m.string(7, node.domain);
}

function writeAttributeValue(a: ProtoWriter, attribute: AttributeValue): void {
  switch (attribute.kind) {
    case "float":
      a.float(2, attribute.value);
      a.int(20, 1);
      break;
    case "int":
      a.int(3, attribute.value);
      a.int(20, 2);
      break;
    case "string":
      a.string(4, attribute.value);
      a.int(20, 3);
      break;
    case "ints":
      for (const value of attribute.value) a.int(8, value);
      a.int(20, 7);
      break;
  }
}

function writeTensor(m: ProtoWriter, tensor: TensorProto): void {
  for (const dim of tensor.dims) m.int(1, dim);
  m.int(2, onnxDataType[tensor.dtype]);
  m.string(8, tensor.name);
  if (tensor.data instanceof Uint8Array) {
    m.blob(9, tensor.data);
    return;
  }
  const { location, offset, length } = tensor.data;
  for (const [key, value] of Object.entries({ location, offset: String(offset), length: String(length) })) {
    m.message(13, (entry) => {
      entry.string(1, key);
      entry.string(2, value);
    });
  }
  m.int(14, 1);
}

function writeValueInfo(m: ProtoWriter, value: ValueInfo): void {
  m.string(1, value.name);
  m.message(2, (type) => {
    type.message(1, (tensor) => {
      tensor.int(1, onnxDataType[value.dtype]);
      tensor.message(2, (shape) => {
        for (const dim of value.dims) {
          shape.message(1, (d) => {
            if (typeof dim === "number") d.int(1, dim);
            else d.string(2, dim);
          });
        }
      });
    });
  });
}

/** Protobuf's wire format: varints, fixed 32-bit floats and length-delimited fields. */
class ProtoWriter {
  readonly #chunks: Uint8Array[] = [];
  #size = 0;

  int(field: number, value: number): void {
    this.#varint(BigInt(field) << 3n);
    this.#varint(BigInt.asUintN(64, BigInt(value)));
  }

  float(field: number, value: number): void {
    this.#varint((BigInt(field) << 3n) | 5n);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setFloat32(0, value, true);
    this.#push(bytes);
  }

  string(field: number, value: string): void {
    this.blob(field, new TextEncoder().encode(value));
  }

  blob(field: number, bytes: Uint8Array): void {
    this.#varint((BigInt(field) << 3n) | 2n);
    this.#varint(BigInt(bytes.length));
    this.#push(bytes);
  }

  message(field: number, write: (m: ProtoWriter) => void): void {
    const inner = new ProtoWriter();
    write(inner);
    this.#varint((BigInt(field) << 3n) | 2n);
    this.#varint(BigInt(inner.#size));
    for (const chunk of inner.#chunks) this.#push(chunk);
  }

  bytes(): Uint8Array {
    const out = new Uint8Array(this.#size);
    let at = 0;
    for (const chunk of this.#chunks) {
      out.set(chunk, at);
      at += chunk.length;
    }
    return out;
  }

  #varint(value: bigint): void {
    const bytes: number[] = [];
    do {
      const low = Number(value & 0x7fn);
      value >>= 7n;
      bytes.push(value > 0n ? low | 0x80 : low);
    } while (value > 0n);
    this.#push(Uint8Array.from(bytes));
  }

  #push(bytes: Uint8Array): void {
    this.#chunks.push(bytes);
    this.#size += bytes.length;
  }
}
