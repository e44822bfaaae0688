/**
 * Half precision on the CPU, for tests. ONNX Runtime's CPU computes half-precision graphs in float32 and leaves the roundings out, so that
 * nothing can overflow there. Here each product's inputs and outputs are rounded to float16 and back by casts of their own, and summed in
 * float32 between: what CUDA's products do. (WebGPU's sum in float16 on some devices, which is less exact.)
 */
import type { ModelProto, NodeProto, TensorProto } from "../../src/onnx/model-proto.ts";
import { onnxDataType } from "../../src/onnx/model-proto.ts";

/** Compute on what they get; all others only move values. */
const products = new Set(["MatMul", "Add", "MultiHeadAttention"]);

/** The same graph without float16, but for roundings to it. */
export function roundHalves(model: ModelProto): ModelProto {
  const halves = new Set(model.initializers.filter(isHalf).map(({ name }) => name));
  if (!model.nodes.some((node) => isCast(node, "float16"))) return model; // all else stays as it is
  const nodes: NodeProto[] = [...halves].map((name) => cast(stored(name), name, "float32"));
  for (const node of model.nodes) {
    const [output] = node.outputs as [string];
    if (isCast(node, "float16")) {
      nodes.push(...rounding(node.inputs[0]!, output));
      halves.add(output);
    } else if (!node.inputs.some((name) => halves.has(name))) {
      nodes.push(node);
    } else if (isCast(node, "float32")) {
      nodes.push({ ...node, opType: "Identity", attributes: {} });
    } else if (products.has(node.opType)) {
      nodes.push({ ...node, outputs: [`${output}.wide`] }, ...rounding(`${output}.wide`, output));
      halves.add(output);
    } else {
      nodes.push(node);
      for (const name of node.outputs) if (node.opType !== "Shape") halves.add(name);
    }
  }
  const initializers = model.initializers.map((tensor) =>
    isHalf(tensor) ? { ...tensor, name: stored(tensor.name) } : tensor,
  );
  return { ...model, nodes, initializers };
}

const stored = (name: string) => `${name}.stored`;

function isHalf({ dtype }: TensorProto): boolean {
  return dtype === "float16";
}

function isCast({ opType, attributes }: NodeProto, to: keyof typeof onnxDataType): boolean {
  return opType === "Cast" && attributes["to"]?.value === onnxDataType[to];
}

function rounding(input: string, output: string): NodeProto[] {
  return [cast(input, `${output}.half`, "float16"), cast(`${output}.half`, output, "float32")];
}

function cast(input: string, output: string, to: keyof typeof onnxDataType): NodeProto {
  const attributes = { to: { kind: "int", value: onnxDataType[to] } } as const;
  return { opType: "Cast", domain: "", inputs: [input], outputs: [output], attributes };
}
