/**
 * The models that can be asked for by name: the built-in one, those installed under the home folder, and folders that
 * the operator named when starting. A request's name is only ever compared with this list; it never becomes a path.
 */
import { readdir, stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ModelInvalidError, ModelNotFoundError } from "../errors.ts";
import { readModelCard } from "../pipelines/model-card.ts";
import type { PictureSize } from "./generation-request.ts";

export interface CatalogModel {
  name: string;
  /** Absolute path, in the diffusers layout. */
  folder: string;
  origin: "built-in" | "installed" | "folder";
  /** The size of a picture when none is asked for. */
  nativeSize: PictureSize;
  license: string | undefined;
  modifiedAt: Date;
}

/** A model that Easel knows how to run but whose weights are not here. */
export interface KnownModel {
  name: string;
  repository: string;
  license: string;
}

export const builtInModel = "easel-sketch";
const builtInFolder = fileURLToPath(new URL(`../../models/${builtInModel}`, import.meta.url));

const knownModels: readonly KnownModel[] = [
  {
    name: "FLUX.1-dev",
    repository: "black-forest-labs/FLUX.1-dev",
    license: "FLUX.1 [dev] Non-Commercial License",
  },
  { name: "FLUX.1-schnell", repository: "black-forest-labs/FLUX.1-schnell", license: "Apache-2.0" },
];

/** FLUX.1's own default in diffusers. */
const fluxNativeSize = 1024;

export interface ModelCatalogOptions {
  /** Folder whose `models/` holds installed models. */
  home: string;
  /** Further model folders; each is named after its last component. */
  folders?: readonly string[] | undefined;
}

export class ModelCatalog {
  readonly #installed: string;
  readonly #folders: readonly string[];

  constructor({ home, folders = [] }: ModelCatalogOptions) {
    this.#installed = join(home, "models");
    this.#folders = folders.map((folder) => resolve(folder));
  }

  /** The models that can be used now. */
  async list(): Promise<CatalogModel[]> {
    const models = await Promise.all(
      [...(await this.#places())].map(([name, place]) => readModel(name, place).catch(() => undefined)),
    );
    return models.filter((model) => model !== undefined);
  }

  /** Known models that are not installed. */
  async missing(): Promise<KnownModel[]> {
    const places = await this.#places();
    return knownModels.filter(({ name }) => !places.has(name));
  }

  /** The model of that exact name. Throws `model_not_found`, with what to do, or `model_invalid`. */
  async resolve(name: string): Promise<CatalogModel> {
    const places = await this.#places();
    const place = places.get(name);
    if (place) return await readModel(name, place);

    const known = knownModels.find((model) => model.name === name);
    if (known) throw new ModelNotFoundError(howToInstall(known));
    const here = [...places.keys()].join(", ") || "none";
    throw new ModelNotFoundError(`There is no model ${JSON.stringify(name.slice(0, 100))}; available: ${here}.`);
  }

  /** Name → place; a folder that the operator named wins over an installed or built-in model of the same name. */
  async #places(): Promise<Map<string, Place>> {
    const places = new Map<string, Place>();
    if (await isModelFolder(builtInFolder)) places.set(builtInModel, { folder: builtInFolder, origin: "built-in" });
    for (const entry of await readdir(this.#installed).catch(() => [])) {
      const folder = join(this.#installed, entry);
      if (await isModelFolder(folder)) places.set(entry, { folder, origin: "installed" });
    }
    for (const folder of this.#folders) places.set(basename(folder), { folder, origin: "folder" });
    return places;
  }
}

/** One sentence on how to install a known model. */
export function howToInstall({ name, repository }: KnownModel): string {
  return (
    `${name} is not installed; put the diffusers folder of ${repository} into $EASEL_HOME/models/${name}, ` +
    `or pass such a folder on the command line with --model FOLDER.`
  );
}

type Place = Pick<CatalogModel, "folder" | "origin">;

async function isModelFolder(folder: string): Promise<boolean> {
  return await stat(join(folder, "model_index.json")).then(
    (file) => file.isFile(),
    () => false,
  );
}

async function readModel(name: string, place: Place): Promise<CatalogModel> {
  const index = join(place.folder, "model_index.json");
  const file = await stat(index).catch((cause: unknown) => {
    throw new ModelInvalidError(`${place.folder} is not a diffusers model folder: it has no model_index.json.`, {
      cause,
    });
  });
  const { nativeSize: side = fluxNativeSize, license } = readModelCard(place.folder);
  return { name, ...place, nativeSize: { width: side, height: side }, license, modifiedAt: file.mtime };
}
