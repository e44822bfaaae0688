/** The rate of one bare product on this machine: the limit that a network's linear layers are measured against. */
import * as ort from "onnxruntime-node";
import { type DType, encodeModel, type TensorProto } from "../src/onnx/model-proto.ts";

export type ProductPrecision = "fp32" | "int8";

/** Tokens, input and output features: FLUX.1-dev's widest layers, at 256×256 and at 512×512 pixels. */
const shapes = [
  [512, 3072, 12288],
  [512, 12288, 3072],
  [1280, 3072, 12288],
  [1280, 12288, 3072],
] as const;
const runsPerShape = 4;

/**
 * The best rate, in 10⁹ operations a second, that ONNX Runtime's product reaches over FLUX's shapes on `threads` threads: both
 * sides are in the product's own format already, nothing is quantized or scaled, and the best of all runs counts. What a
 * step loses to its other work shows as a share below 1.
 */
export async function measurePeak(precision: ProductPrecision, threads: number): Promise<number> {
  let best = 0;
  for (const [tokens, inFeatures, outFeatures] of shapes) {
    const { model, feeds } =
      precision === "fp32"
        ? floatProduct(tokens, inFeatures, outFeatures)
        : int8Product(tokens, inFeatures, outFeatures);
    const session = await ort.InferenceSession.create(model, {
      intraOpNumThreads: threads,
      interOpNumThreads: 1,
      logSeverityLevel: 3,
    });
    for (let i = 0; i < runsPerShape; i++) {
      const start = performance.now();
      await session.run(feeds);
      const seconds = (performance.now() - start) / 1000;
      best = Math.max(best, (2 * tokens * inFeatures * outFeatures) / seconds / 1e9);
    }
    await session.release();
  }
  return best;
}

function floatProduct(m: number, k: number, n: number) {
  const nodes = [{ opType: "MatMul", domain: "", inputs: ["a", "b"], outputs: ["y"], attributes: {} }];
  const model = product("float32", [m, k, n], nodes, [
    tensor("b", "float32", [k, n], new Float32Array(k * n).fill(0.5)),
  ]);
  return { model, feeds: { a: new ort.Tensor("float32", new Float32Array(m * k).fill(0.5), [m, k]) } };
}

function int8Product(m: number, k: number, n: number) {
  const inputs = ["a", "b", "one", "one", "zero_point"];
  const nodes = [{ opType: "MatMulIntegerToFloat", domain: "com.microsoft", inputs, outputs: ["y"], attributes: {} }];
  const model = product("uint8", [m, k, n], nodes, [
    tensor("b", "int8", [k, n], new Int8Array(k * n).fill(3)),
    tensor("one", "float32", [], new Float32Array([1])),
    tensor("zero_point", "uint8", [], new Uint8Array([128])),
  ]);
  return { model, feeds: { a: new ort.Tensor("uint8", new Uint8Array(m * k).fill(131), [m, k]) } };
}

type Nodes = Parameters<typeof encodeModel>[0]["nodes"];

function product(
  dtype: DType,
  [m, k, n]: readonly [number, number, number],
  nodes: Nodes,
  initializers: TensorProto[],
) {
  return encodeModel({
    graphName: "product",
    opsets: { "": 21, "com.microsoft": 1 },
    nodes,
    initializers,
    inputs: [{ name: "a", dtype, dims: [m, k] }],
    outputs: [{ name: "y", dtype: "float32", dims: [m, n] }],
  });
}

function tensor(
  name: string,
  dtype: DType,
  dims: number[],
  values: Float32Array | Int8Array | Uint8Array,
): TensorProto {
  return { name, dtype, dims, data: new Uint8Array(values.buffer, values.byteOffset, values.byteLength) };
}
