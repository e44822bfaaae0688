/**
 * What can enlarge pictures, by name: the built-in network, plain interpolation, the files under the home folder, and those
 * that the operator named. As with models, a request's name is only ever compared with this list; it never becomes a path.
 */
import { readdir, stat } from "node:fs/promises";
import { basename, extname, join, resolve } from "node:path";
import { ModelNotFoundError } from "../errors.ts";
import type { UpscaleFactor } from "../images/upscale.ts";
import { readUpscalerNetwork } from "../models/upscaler-network.ts";
import { builtInUpscaler, builtInUpscalerFile } from "../pipelines/built-in-upscaler.ts";

/** What enlarges a picture. */
export interface Upscaler {
  name: string;
  /** Its weights; undefined for interpolation. */
  file: string | undefined;
  /** What a pixel of the result costs, in denoising steps. */
  stepsPerPixel: number;
}

export interface Enlarging {
  factor: UpscaleFactor;
  upscaler: Upscaler;
}

export interface UpscalerCatalogOptions {
  /** Folder whose `upscalers/` holds installed ones. Default: none are installed. */
  home?: string | undefined;
  /** Further files; each is named after its last component. */
  files?: readonly string[] | undefined;
}

/** Lanczos' filter with three lobes, which sharpens little and invents nothing. */
export const interpolation = "lanczos3";
/** The folder of a home that holds upscalers. */
export const upscalersFolder = (home: string): string => join(home, "upscalers");

const extensions = [".safetensors", ".onnx"];
/** A denoising step of FLUX takes some forty million multiplications a pixel, the built-in model's a hundred thousand. */
const multiplicationsPerStep = 32_768;

export class UpscalerCatalog {
  readonly #folder: string | undefined;
  readonly #files: readonly string[];

  constructor({ home, files = [] }: UpscalerCatalogOptions) {
    this.#folder = home === undefined ? undefined : upscalersFolder(home);
    this.#files = files.map((file) => resolve(file));
  }

  /** All names, the default first. */
  async names(): Promise<string[]> {
    return [builtInUpscaler, interpolation, ...(await this.#places()).keys()];
  }

  /**
   * What the name means for this factor; without a name, the built-in network.
   *
   * @throws ModelNotFoundError naming those that are here.
   * @throws ModelInvalidError, WeightsInvalidError when its file cannot be used.
   */
  async resolve(name: string = builtInUpscaler, factor: UpscaleFactor): Promise<Upscaler> {
    const file = (await this.#places()).get(name);
    if (file !== undefined) return { name, file, stepsPerPixel: await stepsPerPixel(file) };
    if (name === interpolation) return { name, file: undefined, stepsPerPixel: 1 };
    if (name === builtInUpscaler) {
      const builtIn = builtInUpscalerFile(factor);
      return { name, file: builtIn, stepsPerPixel: await stepsPerPixel(builtIn) };
    }
    const here = (await this.names()).join(", ");
    throw new ModelNotFoundError(
      `There is no upscaler ${JSON.stringify(name.slice(0, 100))}; available: ${here}. Put its file into $EASEL_HOME/upscalers.`,
    );
  }

  /** Name → file; one that the operator named wins over an installed one. */
  async #places(): Promise<Map<string, string>> {
    return new Map([...(await this.#installed()), ...this.#files].map((file) => [upscalerName(file), file]));
  }

  async #installed(): Promise<string[]> {
    const folder = this.#folder;
    if (folder === undefined) return [];
    const names = await readdir(folder).catch(() => []);
    return names
      .filter((name) => extensions.includes(extname(name)))
      .toSorted()
      .map((name) => join(folder, name));
  }
}

/** What the upscaler in a file is called. */
export function upscalerName(file: string): string {
  return basename(file, extname(file));
}

/** In proportion to what the network multiplies for each pixel of its result, and at least one. */
async function stepsPerPixel(file: string): Promise<number> {
  const multiplications = file.endsWith(".onnx") ? (await stat(file)).size / 4 / 16 : multiplicationsPerPixel(file);
  return Math.max(1, Math.round(multiplications / multiplicationsPerStep));
}

/** Nearly all layers work at the network's smallest size. */
function multiplicationsPerPixel(file: string): number {
  const { parameters, factor, sideMultiple } = readUpscalerNetwork(file);
  return parameters / (factor * sideMultiple) ** 2;
}
