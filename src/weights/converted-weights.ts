/**
 * Weights in another form than their source's: converted one tensor at a time, in the order in which a network asks for them,
 * into a folder of one data file and an index; and read back from there.
 */
import { closeSync, openSync, readFileSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { ModelInvalidError } from "../errors.ts";
import type { ExternalTensor } from "../onnx/graph-builder.ts";
import type { DType } from "../onnx/model-proto.ts";
import type { LinearOptions, LinearShape, LinearWeight, NetworkWeights } from "./network-weights.ts";
import { int4Block, quantizeInt4, quantizeInt8 } from "./quantize.ts";
import { readTensor } from "./tensor-data.ts";
import type { WeightSource } from "./weight-source.ts";

export interface ConversionOptions {
  /** What linear layers become. */
  linear: "float" | "int8" | "int4";
  /** The largest int8 magnitude, see `quantizeInt8`. */
  int8Limit: 127 | 63;
}

const dataFile = "weights.bin";
const indexFile = "index.json";
/** Where a tensor starts in the file: mapped files like whole pages. */
const alignment = 4096;

/** A name for the scales that belong to a converted weight. */
const scaleOf = (name: string) => `${name}.scale`;

/** [out, blocks, bytes of a block] */
function int4Shape([outFeatures, inFeatures]: LinearShape): [number, number, number] {
  return [outFeatures, Math.ceil(inFeatures / int4Block), int4Block / 2];
}

/** A tensor of the data file. */
type IndexEntry = Omit<ExternalTensor, "name" | "file">;

/** Converts what it is asked for. `finish` makes the folder readable by `StoredWeights`. */
export class WeightConverter implements NetworkWeights, Disposable {
  readonly #source: WeightSource;
  readonly #folder: string;
  readonly #options: ConversionOptions;
  readonly #fd: number;
  readonly #index = new Map<string, IndexEntry>();
  #end = 0;

  /** Writes into `folder`, which exists and is empty. */
  constructor(source: WeightSource, folder: string, options: ConversionOptions) {
    this.#source = source;
    this.#folder = folder;
    this.#options = options;
    this.#fd = openSync(join(folder, dataFile), "wx");
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    if (!this.#index.has(name)) this.#append(name, "float32", shape, readTensor(this.#source.locate(name, shape)));
    return this.#entry(name);
  }

  linear(name: string, shape: LinearShape, { exact = false }: LinearOptions = {}): LinearWeight {
    if (exact || this.#options.linear === "float") return { format: "float", weight: this.get(name, shape) };
    const format = this.#options.linear;
    if (!this.#index.has(name)) {
      const [outFeatures, inFeatures] = shape;
      const weight = readTensor(this.#source.locate(name, shape));
      if (format === "int8") {
        const { values, scale } = quantizeInt8(weight, outFeatures, inFeatures, this.#options.int8Limit);
        this.#append(name, "int8", [inFeatures, outFeatures], values);
        this.#append(scaleOf(name), "float32", [outFeatures], scale);
      } else {
        const { values, scale } = quantizeInt4(weight, outFeatures, inFeatures);
        this.#append(name, "uint8", int4Shape(shape), values);
        this.#append(scaleOf(name), "float32", [scale.length], scale);
      }
    }
    return { format, values: this.#entry(name), scale: this.#entry(scaleOf(name)) };
  }

  finish(): void {
    writeFileSync(join(this.#folder, indexFile), JSON.stringify(Object.fromEntries(this.#index)));
  }

  [Symbol.dispose](): void {
    closeSync(this.#fd);
  }

  #entry(name: string): ExternalTensor {
    return { ...this.#index.get(name)!, name, file: join(this.#folder, dataFile) };
  }

  #append(name: string, dtype: DType, shape: readonly number[], values: Float32Array | Int8Array | Uint8Array): void {
    const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
    const offset = this.#end;
    for (let done = 0; done < bytes.length;) {
      done += writeSync(this.#fd, bytes, done, bytes.length - done, offset + done);
    }
    this.#end = Math.ceil((offset + bytes.length) / alignment) * alignment;
    this.#index.set(name, { dtype, shape, offset, length: bytes.length });
  }
}

/** What a `WeightConverter` finished. */
export class StoredWeights implements NetworkWeights {
  readonly #folder: string;
  readonly #index: ReadonlyMap<string, IndexEntry>;

  constructor(folder: string) {
    this.#folder = folder;
    const index = JSON.parse(readFileSync(join(folder, indexFile), "utf8")) as Record<string, IndexEntry>;
    this.#index = new Map(Object.entries(index));
  }

  has(name: string): boolean {
    return this.#index.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    const entry = this.#index.get(name);
    if (entry === undefined || entry.shape.join() !== shape.join()) {
      throw new ModelInvalidError(
        `The converted weights lack "${name}"; delete ${this.#folder} to convert them again.`,
      );
    }
    return { ...entry, name, file: join(this.#folder, dataFile) };
  }

  linear(name: string, shape: LinearShape): LinearWeight {
    const [outFeatures, inFeatures] = shape;
    switch (this.#index.get(name)?.dtype) {
      case "int8": {
        const values = this.get(name, [inFeatures, outFeatures]);
        return { format: "int8", values, scale: this.get(scaleOf(name), [outFeatures]) };
      }
      case "uint8": {
        const [, blocks] = int4Shape(shape);
        const values = this.get(name, int4Shape(shape));
        return { format: "int4", values, scale: this.get(scaleOf(name), [outFeatures * blocks]) };
      }
      default:
        return { format: "float", weight: this.get(name, shape) };
    }
  }
}
