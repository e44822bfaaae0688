/** `--model`: a name from the catalog, or, on the command line only, a folder or a single file. */
import { statSync } from "node:fs";
import { basename, extname, join, resolve, sep } from "node:path";
import type { Config } from "../config.ts";
import { keepAssembly, planAssembly } from "../engine/assembled-model.ts";
import { ModelCatalog } from "../engine/model-catalog.ts";
import { ModelNotFoundError } from "../errors.ts";

export interface ModelChoice {
  catalog: ModelCatalog;
  /** The chosen model's name in the catalog. */
  name: string;
}

type ModelPlaces = Pick<Config, "home" | "hubCache">;

/**
 * The catalog, extended by the folder or the file when `model` is one; what is used with a file is told on stderr.
 * Throws `model_not_found` for a path that leads nowhere, `model_invalid` and `weights_invalid` for a file that cannot be used.
 */
export async function chooseModel(model: string, { home, hubCache }: ModelPlaces): Promise<ModelChoice> {
  const catalog = new ModelCatalog({ home, hubCache });
  const models = await catalog.list();
  if (models.some(({ name }) => name === model)) return { catalog, name: model };

  const path = resolve(model);
  const place = statSync(path, { throwIfNoEntry: false });
  if (place?.isDirectory()) {
    return { catalog: new ModelCatalog({ home, hubCache, folders: [path] }), name: basename(path) };
  }
  if (place?.isFile()) {
    const assembly = planAssembly({ file: path }, models);
    if (assembly.notice !== undefined) process.stderr.write(`${assembly.notice}\n`);
    const name = basename(path, extname(path));
    const folder = await keepAssembly(join(home, "cache", "assembled"), name, assembly);
    return { catalog: new ModelCatalog({ home, hubCache, folders: [folder] }), name };
  }
  if (model.includes("/") || model.includes(sep)) {
    throw new ModelNotFoundError(
      `There is no model folder or file ${model}; check the path, or see easel models for names.`,
    );
  }
  return { catalog, name: model };
}
