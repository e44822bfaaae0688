/**
 * Loads a network in a precision. Weights that ONNX Runtime can map are used where they lie; all others are converted once
 * and kept in a cache folder as a standard ONNX file with its external data, for every later start and every process.
 */
import { createHash, randomUUID } from "node:crypto";
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, join } from "node:path";
import { EaselError } from "../errors.ts";
import { multipliesBytesExactly } from "../onnx/devices.ts";
import type { OnnxGraph } from "../onnx/graph-builder.ts";
import { Session, type SessionOptions } from "../onnx/session.ts";
import { ConvertedWeights } from "../weights/converted-weights.ts";
import { lockFolder } from "../weights/hub/folder-lock.ts";
import type { NetworkWeights } from "../weights/network-weights.ts";
import { WeightSource } from "../weights/weight-source.ts";

export interface NetworkLoaderOptions extends SessionOptions {
  precision: "fp32" | "int8";
  /** Where converted networks are kept. */
  cacheDir: string | undefined;
}

/** Counts up when converted networks of older versions must not be used any more. */
const formatVersion = 1;

export class NetworkLoader {
  readonly #options: NetworkLoaderOptions;

  constructor(options: NetworkLoaderOptions) {
    this.#options = options;
  }

  /**
   * The network in a component's folder, in this loader's precision; `exact` keeps it in float whatever that is.
   *
   * @param build writes the network's graph on weights that it is given
   * @throws ModelInvalidError, WeightsInvalidError when the folder cannot be used.
   * @throws EaselError `io_failed` when the converted network cannot be kept.
   */
  async load(
    dir: string,
    build: (weights: NetworkWeights) => OnnxGraph,
    { exact = false }: { exact?: boolean } = {},
  ): Promise<Session> {
    const source = WeightSource.openFolder(dir);
    const linear = exact || this.#options.precision === "fp32" ? "float" : "int8";
    const graph =
      linear === "float" && source.isMappable() ? build(source) : await this.#converted(dir, source, linear, build);
    return await Session.create(graph, this.#options);
  }

  async #converted(
    dir: string,
    source: WeightSource,
    linear: "float" | "int8",
    build: (weights: NetworkWeights) => OnnxGraph,
  ): Promise<OnnxGraph> {
    const { cacheDir } = this.#options;
    if (cacheDir === undefined) {
      throw new EaselError(
        "io_failed",
        `The weights in ${basename(dir)} must be converted, which needs a cache folder.`,
      );
    }
    const int8Limit = multipliesBytesExactly() ? 127 : 63;
    const folder = join(cacheDir, cacheKey(dir, source, linear, int8Limit));
    const read = (): OnnxGraph => ({ model: readFileSync(join(folder, "network.onnx")), externalDataDir: folder });
    if (existsSync(folder)) return read();

    const waiting = { signal: new AbortController().signal, onWaiting: () => {} };
    const lock = await lockFolder(`${folder}.lock`, waiting);
    const unfinished = `${folder}.${randomUUID()}.tmp`;
    try {
      if (existsSync(folder)) return read(); // another process was faster
      mkdirSync(unfinished, { recursive: true });
      using weights = new ConvertedWeights(source, join(unfinished, "weights.bin"), { linear, int8Limit });
      writeFileSync(join(unfinished, "network.onnx"), build(weights).model);
      renameSync(unfinished, folder);
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
    return read();
  }
}

/** The same source in the same form has the same key; anything that would change the result changes it. */
function cacheKey(dir: string, source: WeightSource, linear: string, int8Limit: number): string {
  const hash = createHash("sha256");
  hash.update(JSON.stringify([formatVersion, linear, linear === "int8" ? int8Limit : 0]));
  hash.update(readFileSync(join(dir, "config.json")));
  for (const file of source.files()) {
    const { size, mtimeMs } = statSync(file);
    hash.update(JSON.stringify([file, size, mtimeMs]));
  }
  return `${basename(dir)}-${linear}-${hash.digest("hex").slice(0, 16)}`;
}
