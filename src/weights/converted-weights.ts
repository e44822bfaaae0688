/**
 * Weights in another form than their source's: planned by writing a network's graphs, converted one tensor at a time into a folder
 * of one data file and an index, and read back from there.
 */
import { readFileSync, statSync } from "node:fs";
import { type FileHandle, open, writeFile } from "node:fs/promises";
import { basename, join } from "node:path";
import { ModelInvalidError } from "../errors.ts";
import type { ExternalTensor } from "../onnx/graph-builder.ts";
import type { DType } from "../onnx/model-proto.ts";
import type { LinearOptions, LinearShape, LinearWeight, NetworkWeights } from "./network-weights.ts";
import { largestHalf, transposedHalves } from "./half-float.ts";
import { int4Block, quantizeInt4, quantizeInt8 } from "./quantize.ts";
import { readTensor } from "./tensor-data.ts";
import { type TensorLocation, valueCount } from "./tensor-location.ts";
import type { WeightSource } from "./weight-source.ts";

export interface ConversionOptions {
  /** What linear layers become. */
  linear: "float" | "fp16" | "int8" | "int4";
  /** The largest int8 magnitude, see `quantizeInt8`. */
  int8Limit: 127 | 63;
}

export interface WriteWatch {
  /** Looked at between two tensors. */
  signal?: AbortSignal | undefined;
  /** How much of `bytes` is written. */
  onBytes?: ((writtenBytes: number) => void) | undefined;
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

type Values = Float32Array | Float16Array | Int8Array | Uint8Array;

/** A tensor to convert, and where its parts go. */
interface Step {
  tensor: TensorLocation;
  places: readonly IndexEntry[];
  convert(values: Float32Array): readonly Values[];
}

/**
 * Converts what it is asked for: write the network's graphs on it first, which reads nothing, then `write`. The tensors that it
 * gives stand for those to come; such a graph cannot be run.
 */
export class WeightConverter implements NetworkWeights {
  readonly #source: WeightSource;
  readonly #options: ConversionOptions;
  readonly #index = new Map<string, IndexEntry>();
  readonly #steps: Step[] = [];
  #end = 0;

  constructor(source: WeightSource, options: ConversionOptions) {
    this.#source = source;
    this.#options = options;
  }

  has(name: string): boolean {
    return this.#source.has(name);
  }

  get(name: string, shape: readonly number[]): ExternalTensor {
    if (!this.#index.has(name)) {
      const tensor = this.#source.locate(name, shape);
      this.#steps.push({
        tensor,
        places: [this.#place(name, "float32", shape, 4 * valueCount(shape))],
        convert: (values) => {
          // Biases join the products.
          if (this.#options.linear === "fp16" && shape.length === 1 && values.some(isBeyondHalf))
            throw beyondHalf(tensor);
          return [values];
        },
      });
    }
    return this.#entry(name);
  }

  linear(name: string, shape: LinearShape, { exact = false }: LinearOptions = {}): LinearWeight {
    const { linear: format, int8Limit } = this.#options;
    if (exact || format === "float") return { format: "float", weight: this.get(name, shape) };
    if (!this.#index.has(name)) {
      const [outFeatures, inFeatures] = shape;
      const tensor = this.#source.locate(name, shape);
      if (format === "fp16") {
        const transposed = [inFeatures, outFeatures];
        const convert = (weight: Float32Array) => {
          const halves = transposedHalves(weight, outFeatures, inFeatures);
          if (halves === undefined) throw beyondHalf(tensor);
          return [halves];
        };
        this.#steps.push({
          tensor,
          places: [this.#place(name, "float16", transposed, 2 * valueCount(shape))],
          convert,
        });
      } else if (format === "int8") {
        const places = [
          this.#place(name, "int8", [inFeatures, outFeatures], inFeatures * outFeatures),
          this.#place(scaleOf(name), "float32", [outFeatures], 4 * outFeatures),
        ];
        const convert = (weight: Float32Array) => {
          const { values, scale } = quantizeInt8(weight, outFeatures, inFeatures, int8Limit);
          return [values, scale];
        };
        this.#steps.push({ tensor, places, convert });
      } else {
        const blocks = int4Shape(shape);
        const scales = outFeatures * blocks[1];
        const places = [
          this.#place(name, "uint8", blocks, valueCount(blocks)),
          this.#place(scaleOf(name), "float32", [scales], 4 * scales),
        ];
        const convert = (weight: Float32Array) => {
          const { values, scale } = quantizeInt4(weight, outFeatures, inFeatures);
          return [values, scale];
        };
        this.#steps.push({ tensor, places, convert });
      }
    }
    if (format === "fp16") return { format, weight: this.#entry(name), transposed: true };
    return { format, values: this.#entry(name), scale: this.#entry(scaleOf(name)) };
  }

  /** What the converted weights will take on the disk, but for their index. */
  get bytes(): number {
    return this.#end;
  }

  /**
   * Writes into `folder`, which exists and is empty, and makes sure that it is on the disk: then `StoredWeights` can read it.
   *
   * @throws ModelInvalidError for fp16 when a value is too large for it.
   * @throws WeightsInvalidError, the file system's own errors, and the signal's reason; the folder is of no use then.
   */
  async write(folder: string, { signal, onBytes }: WriteWatch = {}): Promise<void> {
    await using file = await open(join(folder, dataFile), "wx");
    for (const { tensor, places, convert } of this.#steps) {
      signal?.throwIfAborted();
      for (const [i, values] of convert(readTensor(tensor)).entries()) {
        await writeAt(file, places[i]!.offset, values);
      }
      const last = places.at(-1)!;
      onBytes?.(last.offset + last.length);
    }
    await file.truncate(this.#end); // the last tensor's page is whole too, so that the size proves the file
    await file.sync();
    await writeFile(join(folder, indexFile), JSON.stringify(Object.fromEntries(this.#index)), { flush: true });
    onBytes?.(this.#end);
  }

  #entry(name: string): ExternalTensor {
    return { ...this.#index.get(name)!, name, file: dataFile };
  }

  #place(name: string, dtype: DType, shape: readonly number[], length: number): IndexEntry {
    const entry = { dtype, shape, offset: this.#end, length };
    this.#end = alignedEnd(entry);
    this.#index.set(name, entry);
    return entry;
  }
}

function isBeyondHalf(value: number): boolean {
  return Math.abs(value) > largestHalf;
}

function beyondHalf({ name, file }: TensorLocation): ModelInvalidError {
  return new ModelInvalidError(
    `The tensor "${name}" in ${basename(file)} has values beyond ±${largestHalf}, which fp16 cannot hold; choose another precision.`,
  );
}

function alignedEnd({ offset, length }: IndexEntry): number {
  return Math.ceil((offset + length) / alignment) * alignment;
}

async function writeAt(file: FileHandle, offset: number, values: Values): Promise<void> {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done, offset + done)).bytesWritten;
  }
}

/** What a `WeightConverter` wrote. */
export class StoredWeights implements NetworkWeights {
  readonly #folder: string;
  readonly #index: ReadonlyMap<string, IndexEntry>;

  private constructor(folder: string, index: ReadonlyMap<string, IndexEntry>) {
    this.#folder = folder;
    this.#index = index;
  }

  /** undefined when the folder is not there, or not whole. */
  static open(folder: string): StoredWeights | undefined {
    try {
      const index = JSON.parse(readFileSync(join(folder, indexFile), "utf8")) as Record<string, IndexEntry>;
      const bytes = Object.values(index).reduce((end, entry) => Math.max(end, alignedEnd(entry)), 0);
      const here = statSync(join(folder, dataFile)).size;
      // Earlier versions left the last page short.
      return here > bytes - alignment && here <= bytes
        ? new StoredWeights(folder, new Map(Object.entries(index)))
        : undefined;
    } catch {
      return undefined;
    }
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
      case "float16":
        return { format: "fp16", weight: this.get(name, [inFeatures, outFeatures]), transposed: true };
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
