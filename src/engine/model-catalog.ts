/**
 * The models that can be asked for by name: the built-in one, those installed under the home folder, known ones that lie
 * whole in the Hugging Face cache, and folders that the operator named when starting. A request's name is only ever
 * compared with this list; it never becomes a path.
 */
import { existsSync } from "node:fs";
import { stat } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { fileURLToPath } from "node:url";
import { ModelInvalidError, ModelNotFoundError } from "../errors.ts";
import { readModelCard } from "../pipelines/model-card.ts";
import { findCachedSnapshot } from "../weights/hub/hub-cache.ts";
import { hasModelFiles, networkPlaces } from "../weights/model-files.ts";
import type { PictureSize } from "./generation-request.ts";
import { type KnownModel, knownModels } from "./known-models.ts";
import { ModelStore } from "./model-store.ts";

export interface CatalogModel {
  name: string;
  /** Absolute path, in the diffusers layout. */
  folder: string;
  origin: "built-in" | "installed" | "linked" | "assembled" | "cached" | "folder";
  /** The size of a picture when none is asked for. */
  nativeSize: PictureSize;
  license: string | undefined;
  modifiedAt: Date;
}

/** A model that cannot be used yet: a known one, or one whose download was interrupted. */
export interface MissingModel extends Omit<KnownModel, "transformer"> {
  /** How much of an interrupted download is here, from 0 to 1; undefined when there is none. */
  progress: number | undefined;
}

export const builtInModel = "easel-sketch";
const builtInFolder = fileURLToPath(new URL(`../../models/${builtInModel}`, import.meta.url));

/** How long a look at the disk counts as one at what is there now: under load, it is looked at a few times a second. */
const freshMs = 100;

/** What was seen on the disk; those who ask at about the same time get the same answer. */
interface Look {
  atMs: number;
  places: Promise<ReadonlyMap<string, Place>>;
  /** By name, those that somebody has asked about. */
  models: Map<string, Promise<CatalogModel>>;
}

/** FLUX.1's own default in diffusers. */
const fluxNativeSize = 1024;

export interface ModelCatalogOptions {
  /** Folder whose `models/` holds installed models. */
  home: string;
  /** Root of the Hugging Face cache, to find known models in. */
  hubCache?: string | undefined;
  /** Further model folders; each is named after its last component. */
  folders?: readonly string[] | undefined;
}

export class ModelCatalog {
  readonly #store: ModelStore;
  readonly #hubCache: string | undefined;
  readonly #folders: readonly string[];
  #latest: Look | undefined;

  constructor({ home, hubCache, folders = [] }: ModelCatalogOptions) {
    this.#store = new ModelStore(home);
    this.#hubCache = hubCache;
    this.#folders = folders.map((folder) => resolve(folder));
  }

  /** The models that can be used now. */
  async list(): Promise<CatalogModel[]> {
    const look = this.#look();
    const models = await Promise.all(
      [...(await look.places)].map(([name, place]) => readOnce(look, name, place).catch(() => undefined)),
    );
    return models.filter((model) => model !== undefined);
  }

  /** Models that are known or partly downloaded, and neither installed nor in the cache. */
  async missing(): Promise<MissingModel[]> {
    const [places, unfinished] = await Promise.all([this.#look().places, this.#store.unfinished()]);
    const models = new Map<string, MissingModel>();
    for (const known of knownModels) models.set(known.name, { ...known, progress: undefined });
    for (const [name, { repository, license, receivedBytes, totalBytes }] of unfinished) {
      const model = models.get(name) ?? { name, repository, license: license ?? "" };
      const progress = receivedBytes / Math.max(1, totalBytes);
      models.set(name, { ...model, downloadBytes: totalBytes, progress });
    }
    return [...models.values()].filter(({ name }) => !places.has(name));
  }

  /** The model of that exact name. Throws `model_not_found`, with what to do, or `model_invalid`. */
  async resolve(name: string): Promise<CatalogModel> {
    const look = this.#look();
    const places = await look.places;
    const place = places.get(name);
    if (place) return await readOnce(look, name, place);

    const known = (await this.missing()).find((model) => model.name === name);
    if (known) throw new ModelNotFoundError(howToInstall(known));
    const here = [...places.keys()].join(", ") || "none";
    throw new ModelNotFoundError(`There is no model ${JSON.stringify(name.slice(0, 100))}; available: ${here}.`);
  }

  #look(): Look {
    const atMs = performance.now();
    if (this.#latest === undefined || atMs - this.#latest.atMs > freshMs)
      this.#latest = { atMs, places: this.#findPlaces(), models: new Map() };
    return this.#latest;
  }

  /** Name → place; a folder that the operator named wins over an installed or built-in model of the same name. */
  async #findPlaces(): Promise<Map<string, Place>> {
    const places = new Map<string, Place>();
    if (await isModelFolder(builtInFolder)) places.set(builtInModel, { folder: builtInFolder, origin: "built-in" });
    for (const { name, folder, origin, license } of await this.#store.list()) {
      places.set(name, { folder, origin, license });
    }
    for (const { name, repository, license } of knownModels) {
      if (this.#hubCache === undefined || places.has(name)) continue;
      const snapshot = await findCachedSnapshot(this.#hubCache, repository);
      if (snapshot) places.set(name, { folder: snapshot.folder, origin: "cached", license });
    }
    for (const folder of this.#folders) places.set(basename(folder), { folder, origin: "folder" });
    return places;
  }
}

/** One sentence on how to install a model, or go on with it. */
export function howToInstall({ name, repository, progress }: MissingModel): string {
  const what = knownModels.some((known) => known.name === name) ? name : repository;
  return progress === undefined
    ? `${name} is not installed; install it with: easel pull ${what}`
    : `${name} is downloaded to ${Math.floor(progress * 100)} %; go on with: easel pull ${what}`;
}

type Place = Pick<CatalogModel, "folder" | "origin"> & { license?: string | undefined };

async function isModelFolder(folder: string): Promise<boolean> {
  return await stat(join(folder, "model_index.json")).then(
    (file) => file.isFile(),
    () => false,
  );
}

async function readOnce({ models }: Look, name: string, place: Place): Promise<CatalogModel> {
  const model = models.get(name) ?? readModel(name, place);
  models.set(name, model);
  return await model;
}

async function readModel(name: string, place: Place): Promise<CatalogModel> {
  const { folder, origin } = place;
  const file = await stat(join(folder, "model_index.json")).catch((cause: unknown) => {
    throw new ModelInvalidError(
      origin === "linked"
        ? `The folder ${folder} of the model ${name} is gone; bring it back, or forget it with: easel rm ${name}`
        : `${folder} is not a diffusers model folder: it has no model_index.json.`,
      { cause },
    );
  });
  if (hasModelFiles(folder)) requireFiles(name, place);
  const { nativeSize: side = fluxNativeSize, license = licenseOf(name) ?? place.license } = readModelCard(folder);
  return { name, folder, origin, nativeSize: { width: side, height: side }, license, modifiedAt: file.mtime };
}

/** Throws `model_invalid` when a file of an assembled model is gone. */
function requireFiles(name: string, { folder, origin }: Place): void {
  const gone = Object.values(networkPlaces(folder)).find((path) => !existsSync(path));
  if (gone === undefined) return;
  const otherwise = origin === "assembled" ? `, or forget it with: easel rm ${name}` : "";
  throw new ModelInvalidError(`The file ${gone} of the model ${name} is gone; bring it back${otherwise}.`);
}

function licenseOf(name: string): string | undefined {
  return knownModels.find((known) => known.name === name)?.license;
}
