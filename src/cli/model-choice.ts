/** `--model`: a name from the catalog, or, on the command line only, a folder. */
import { statSync } from "node:fs";
import { basename, resolve, sep } from "node:path";
import type { Config } from "../config.ts";
import { ModelCatalog } from "../engine/model-catalog.ts";
import { ModelNotFoundError } from "../errors.ts";

export interface ModelChoice {
  catalog: ModelCatalog;
  /** The chosen model's name in the catalog. */
  name: string;
}

type ModelPlaces = Pick<Config, "home" | "hubCache">;

/** The catalog, extended by the folder when `model` is one. Throws `model_not_found` for a folder that is not there. */
export async function chooseModel(model: string, { home, hubCache }: ModelPlaces): Promise<ModelChoice> {
  const catalog = new ModelCatalog({ home, hubCache });
  if ((await catalog.list()).some(({ name }) => name === model)) return { catalog, name: model };

  const folder = resolve(model);
  if (statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    return { catalog: new ModelCatalog({ home, hubCache, folders: [folder] }), name: basename(folder) };
  }
  if (model.includes("/") || model.includes(sep)) {
    throw new ModelNotFoundError(`There is no model folder ${model}; check the path, or see easel models for names.`);
  }
  return { catalog, name: model };
}
