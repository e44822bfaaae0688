/**
 * Weights converted while a graph is written: each tensor that the network asks for is read, converted and appended to one
 * file, so that never more than one is in memory.
 */
import { closeSync, openSync, writeSync } from "node:fs";
import type { ExternalTensor } from "../onnx/graph-builder.ts";
import type { DType } from "../onnx/model-proto.ts";
import type { LinearWeight, NetworkWeights } from "./network-weights.ts";
import { quantizeInt8 } from "./quantize.ts";
import { readTensor } from "./tensor-data.ts";
import type { WeightSource } from "./weight-source.ts";

export interface ConversionOptions {
  /** What linear layers become. */
  linear: "float" | "int8";
  /** The largest int8 magnitude, see `quantizeInt8`. */
  int8Limit: 127 | 63;
}

/** Where a tensor starts in the file: ONNX Runtime likes them aligned to pages. */
const alignment = 4096;

export class ConvertedWeights implements NetworkWeights, Disposable {
  readonly #source: WeightSource;
  readonly #file: string;
  readonly #options: ConversionOptions;
  readonly #fd: number;
  readonly #written = new Map<string, ExternalTensor>();
  #end = 0;

  /** Writes to `file`, which must not exist yet. */
  constructor(source: WeightSource, file: string, options: ConversionOptions) {
    this.#source = source;
    this.#file = file;
    this.#options = options;
    this.#fd = openSync(file, "wx");
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    const known = this.#written.get(name);
    if (known !== undefined) return known;
    return this.#append(name, "float32", shape, readTensor(this.#source.locate(name, shape)));
  }

  linear(name: string, shape: readonly [number, number]): LinearWeight {
    if (this.#options.linear === "float") return { format: "float", weight: this.get(name, shape) };
    const scaleName = `${name}.scale`;
    const [values, scale] = [this.#written.get(name), this.#written.get(scaleName)];
    if (values !== undefined && scale !== undefined) return { format: "int8", values, scale };
    const [outFeatures, inFeatures] = shape;
    const weight = readTensor(this.#source.locate(name, shape));
    const quantized = quantizeInt8(weight, outFeatures, inFeatures, this.#options.int8Limit);
    return {
      format: "int8",
      values: this.#append(name, "int8", [inFeatures, outFeatures], quantized.values),
      scale: this.#append(scaleName, "float32", [outFeatures], quantized.scale),
    };
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #append(name: string, dtype: DType, shape: readonly number[], values: Float32Array | Int8Array): ExternalTensor {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const offset = this.#end;
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.#fd, bytes, done, bytes.length - done, offset + done);
    }
    this.#end = Math.ceil((offset + bytes.length) / alignment) * alignment;
    const tensor = { name, dtype, shape, file: this.#file, offset, length: bytes.length };
    this.#written.set(name, tensor);
    return tensor;
  }
}
