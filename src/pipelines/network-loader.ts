/**
 * Brings a network's weights into a precision, with LoRAs. Weights that ONNX Runtime can map are used where they lie; all others are
 * converted once and kept in a cache folder, for every later start and every process.
 */
import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { EaselError } from "../errors.ts";
import { multipliesBytesExactly } from "../onnx/devices.ts";
import type { OnnxGraph } from "../onnx/graph-builder.ts";
import { Session, type SessionOptions } from "../onnx/session.ts";
import { AdaptedWeights } from "../weights/adapted-weights.ts";
import { type ConversionOptions, StoredWeights, WeightConverter } from "../weights/converted-weights.ts";
import { lockFolder } from "../weights/hub/folder-lock.ts";
import type { LoraComponent, ScaledLora } from "../weights/lora.ts";
import { MappedWeights } from "../weights/mapped-weights.ts";
import { openNetwork } from "../weights/model-files.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import type { WeightSource } from "../weights/weight-source.ts";

export interface NetworkLoaderOptions extends SessionOptions {
  modelDir: string;
  precision: "fp32" | "int8" | "int4";
  /** Where converted weights are kept. */
  cacheDir: string | undefined;
}

export interface NetworkOptions {
  /** Keeps the network in float, whatever the precision of the others. */
  exact?: boolean;
  /** Adapters on top; those that change nothing in this network are passed over. */
  loras?: readonly ScaledLora[];
}

/** A network, by its folder in the diffusers layout. */
export type Component = LoraComponent | "vae";

/** Writes a network's graph on weights that it is given. */
export type GraphFunction = (weights: NetworkWeights) => OnnxGraph;

/** Counts up when converted weights of older versions must not be used any more. */
const formatVersion = 1;

export class NetworkLoader {
  readonly #options: NetworkLoaderOptions;

  constructor(options: NetworkLoaderOptions) {
    this.#options = options;
  }

  /**
   * The graph of one of the model's networks, over weights that are ready to be loaded.
   *
   * @throws ModelInvalidError, WeightsInvalidError when its files, or a LoRA for it, cannot be used.
   * @throws EaselError `io_failed` when converted weights cannot be kept.
   */
  async prepare(
    component: Component,
    graph: GraphFunction,
    { exact = false, loras = [] }: NetworkOptions = {},
  ): Promise<OnnxGraph> {
    const dir = join(this.#options.modelDir, component);
    const source = openNetwork(this.#options.modelDir, component);
    const { precision } = this.#options;
    const linear = exact || precision === "fp32" ? "float" : precision;
    const mapped = linear === "float" ? MappedWeights.of(source) : undefined;
    const weights = mapped ?? new StoredWeights(await this.#convert(dir, source, linear, graph));
    return graph(withLoras(weights, source, component, loras));
  }

  /** The network of a graph, ready to run. Throws `ModelInvalidError` when ONNX Runtime refuses it. */
  start(graph: OnnxGraph): Promise<Session> {
    return Session.create(graph, this.#options);
  }

  /** The folder of the converted weights, which are made if they are not there yet. */
  async #convert(
    dir: string,
    source: WeightSource,
    linear: ConversionOptions["linear"],
    graph: GraphFunction,
  ): Promise<string> {
    const { cacheDir } = this.#options;
    if (cacheDir === undefined) {
      throw new EaselError(
        "io_failed",
        `The weights in ${basename(dir)} must be converted, which needs a cache folder.`,
      );
    }
    const conversion: ConversionOptions = { linear, int8Limit: multipliesBytesExactly() ? 127 : 63 };
    const folder = join(cacheDir, cacheKey(dir, source, conversion));
    if (existsSync(folder)) return folder;

    const waiting = { signal: new AbortController().signal, onWaiting: () => {} };
    const lock = await lockFolder(`${folder}.lock`, waiting);
    const unfinished = `${folder}.${randomUUID()}.tmp`;
    try {
      if (existsSync(folder)) return folder; // another process was faster
      mkdirSync(unfinished, { recursive: true });
      using converter = new WeightConverter(source, unfinished, conversion);
      graph(converter); // asks for every weight, in order; the graph itself is not needed yet
      // The autoencoder has two graphs, and both will look into this folder.
      if (basename(dir) === "vae") for (const { name, shape } of source.tensors()) converter.get(name, shape);
      converter.finish();
      renameSync(unfinished, folder);
      return folder;
    } catch (cause) {
      rmSync(unfinished, { recursive: true, force: true });
      if (cause instanceof EaselError) throw cause;
      const reason = cause instanceof Error ? cause.message : String(cause);
      throw new EaselError("io_failed", `The converted ${basename(dir)} could not be kept in ${cacheDir}: ${reason}.`, {
        cause,
      });
    } finally {
      await lock[Symbol.asyncDispose]();
    }
  }
}

function withLoras(
  weights: NetworkWeights,
  source: WeightSource,
  component: Component,
  loras: readonly ScaledLora[],
): NetworkWeights {
  if (component === "vae") return weights;
  const concerned = loras.filter(({ lora }) => lora.tensorNames(component).length > 0);
  for (const { lora } of concerned) lora.requireFit(component, source);
  return concerned.length === 0 ? weights : new AdaptedWeights(weights, component, concerned);
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
