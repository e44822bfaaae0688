/**
 * A model's weights in the precision that it runs in. Weights that ONNX Runtime can map are used where they lie; all others are
 * converted once and kept in a cache folder, for every later start and every process.
 */
import { createHash } from "node:crypto";
import { readFileSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { EaselError } from "../errors.ts";
import { multipliesBytesExactly } from "../onnx/processor.ts";
import { buildEntry } from "../weights/conversion-cache.ts";
import { type ConversionOptions, StoredWeights, WeightConverter } from "../weights/converted-weights.ts";
import { MappedWeights } from "../weights/mapped-weights.ts";
import { openNetwork } from "../weights/model-files.ts";
import { folderBytes } from "../weights/model-folder.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import { type Component, components, titles } from "../weights/single-file.ts";
import type { WeightSource } from "../weights/weight-source.ts";
import { exactNetworks, networkGraphs } from "./network-graphs.ts";
import type { Precision } from "./precision.ts";

export interface ConvertedModel {
  modelDir: string;
  precision: Precision;
  /** Where converted weights are kept. */
  cacheDir?: string | undefined;
}

/** How far a network's conversion is. */
export interface NetworkConversion {
  component: Component;
  writtenBytes: number;
  totalBytes: number;
}

/** How far the conversion of a whole model is. */
export interface ConversionTotals {
  writtenBytes: number;
  totalBytes: number;
}

export interface ConversionWatch {
  signal?: AbortSignal | undefined;
  /** What is going to be converted, before anything is; not called when there is nothing to do. */
  onPlan?: ((networks: readonly NetworkConversion[]) => void) | undefined;
  onProgress?: ((progress: NetworkConversion) => void) | undefined;
  /** Another process is converting this network now. */
  onWaiting?: ((component: Component) => void) | undefined;
}

/** A watch that is told how far all networks together are, after each tensor. */
export function watchTotals(onTotals: (totals: ConversionTotals) => void): ConversionWatch {
  const networks = new Map<Component, NetworkConversion>();
  const sum = (key: "writtenBytes" | "totalBytes") =>
    [...networks.values()].reduce((total, one) => total + one[key], 0);
  const tell = (network: NetworkConversion) => {
    networks.set(network.component, network);
    onTotals({ writtenBytes: sum("writtenBytes"), totalBytes: sum("totalBytes") });
  };
  return {
    onPlan: (planned) => planned.forEach((network) => networks.set(network.component, network)),
    onProgress: tell,
  };
}

/** Counts up when converted weights of older versions must not be used any more. */
const formatVersion = 1;

/** A network whose weights cannot be used as they are. */
interface Conversion {
  component: Component;
  source: WeightSource;
  options: ConversionOptions;
  /** Where the converted weights are, or will be. */
  folder: string;
}

/**
 * Converts all that the model needs in its precision and that is not converted yet. Two processes take turns, and the second finds
 * the work done; what is not whole never has its final name, however a process ends.
 *
 * @returns bytes of all its converted weights, those that were there before included
 * @throws ModelInvalidError, WeightsInvalidError when its files cannot be used.
 * @throws EaselError `io_failed` when there is no room for the result, before anything is converted, or it cannot be written.
 * @throws the signal's reason.
 */
export async function convertModel(model: ConvertedModel, watch: ConversionWatch = {}): Promise<number> {
  const conversions = components.flatMap((component) => conversionOf(model, component) ?? []);
  const planned = conversions
    .filter(({ folder }) => StoredWeights.open(folder) === undefined)
    .map((conversion) => ({ ...conversion, converter: planConverter(model, conversion) }));
  if (planned.length > 0) {
    watch.onPlan?.(planned.map((conversion) => progressOf(conversion, 0)));
  }
  for (const [i, conversion] of planned.entries()) {
    const { component, source, converter, folder } = conversion;
    await buildEntry(
      { folder, sources: source.files() },
      {
        signal: watch.signal ?? new AbortController().signal,
        neededBytes: planned.slice(i).reduce((sum, { converter: { bytes } }) => sum + bytes, 0),
        onWaiting: () => watch.onWaiting?.(component),
      },
      (unfinished) =>
        converter.write(unfinished, {
          signal: watch.signal,
          onBytes: (bytes) => watch.onProgress?.(progressOf(conversion, bytes)),
        }),
    );
    watch.onProgress?.(progressOf(conversion, converter.bytes));
  }
  const sizes = await Promise.all(conversions.map(({ folder }) => folderBytes(folder)));
  return sizes.reduce((sum, bytes) => sum + bytes, 0);
}

/**
 * One network's weights, ready to be loaded.
 *
 * @throws as `convertModel`, which should have been called before.
 */
export async function networkWeights(model: ConvertedModel, component: Component): Promise<NetworkWeights> {
  const conversion = conversionOf(model, component);
  if (conversion === undefined) return mappedWeights(model, component)!;
  const stored = StoredWeights.open(conversion.folder);
  if (stored !== undefined) return stored;
  await convertModel(model); // somebody emptied the cache
  return StoredWeights.open(conversion.folder)!;
}

/** Whether the model runs in this precision without being converted now, although it has to be converted. */
export function isConverted(model: ConvertedModel): boolean {
  if (model.cacheDir === undefined) return false;
  const conversions = components.flatMap((component) => conversionOf(model, component) ?? []);
  return conversions.length > 0 && conversions.every(({ folder }) => StoredWeights.open(folder) !== undefined);
}

function linearFormat({ precision }: ConvertedModel, component: Component): ConversionOptions["linear"] {
  return exactNetworks.has(component) || precision === "fp32" ? "float" : precision;
}

/** undefined where the weights cannot be used as they are. */
function mappedWeights(model: ConvertedModel, component: Component): MappedWeights | undefined {
  const linear = linearFormat(model, component);
  if (linear === "int8" || linear === "int4") return undefined;
  return MappedWeights.of(openNetwork(model.modelDir, component), linear);
}

/** undefined for a network whose weights can be used as they are. */
function conversionOf(model: ConvertedModel, component: Component): Conversion | undefined {
  if (mappedWeights(model, component) !== undefined) return undefined;
  const { modelDir, cacheDir } = model;
  const source = openNetwork(modelDir, component);
  const linear = linearFormat(model, component);
  if (cacheDir === undefined) {
    throw new EaselError(
      "io_failed",
      `The weights of the ${titles[component]} must be converted, which needs a cache folder.`,
    );
  }
  const options: ConversionOptions = { linear, int8Limit: multipliesBytesExactly() ? 127 : 63 };
  const folder = join(cacheDir, cacheKey(join(modelDir, component), source, options));
  return { component, source, options, folder };
}

function planConverter({ modelDir }: ConvertedModel, { component, source, options }: Conversion): WeightConverter {
  const converter = new WeightConverter(source, options);
  for (const graph of networkGraphs(modelDir, component)) graph(converter);
  return converter;
}

function progressOf(
  { component, converter }: { component: Component; converter: WeightConverter },
  writtenBytes: number,
): NetworkConversion {
  return { component, writtenBytes, totalBytes: converter.bytes };
}

/** The same source in the same form has the same key; anything that would change the result changes it. */
function cacheKey(dir: string, source: WeightSource, { linear, int8Limit }: ConversionOptions): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([formatVersion, linear, linear === "int8" ? int8Limit : 0]));
  hash.update(readFileSync(join(dir, "config.json")));
  for (const file of source.files()) {
    const { size, mtimeMs } = statSync(file);
    hash.update(JSON.stringify([file, size, mtimeMs]));
  }
  return `${basename(dir)}-${linear}-${hash.digest("hex").slice(0, 16)}`;
}
