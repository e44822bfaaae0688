/** What `easel pull` was asked for: a repository on the Hub, or a folder or file on this machine. */
import { existsSync, statSync } from "node:fs";
import { homedir } from "node:os";
import { basename, extname, isAbsolute, join, resolve } from "node:path";
import { builtInModel } from "../engine/model-catalog.ts";
import { knownModels } from "../engine/known-models.ts";
import { InvalidRequestError, ModelNotFoundError } from "../errors.ts";
import { isWeightFile } from "../weights/sibling-files.ts";

export type PullTarget =
  | { kind: "repository"; repository: string }
  /** Absolute paths: of a model folder in the layout of diffusers, of a file with a transformer. */
  | { kind: "folder"; folder: string }
  | { kind: "file"; file: string };

const repositoryPattern = /^[A-Za-z0-9][\w.-]*\/[A-Za-z0-9][\w.-]*$/;

/**
 * A known name; a path, which is whatever begins like one, or is a file or a model folder that is there; else `owner/repo`, also as the
 * address of its page. Throws `invalid_request` and `model_not_found`.
 */
export function parsePullTarget(text: string, endpoint: string): PullTarget {
  const known = knownModels.find(({ name }) => name.toLowerCase() === text.toLowerCase());
  if (known) return { kind: "repository", repository: known.repository };
  if (text === builtInModel) throw new InvalidRequestError("model", `${text} is built in; there is nothing to pull.`);

  const path = text.startsWith("~/") ? join(homedir(), text.slice(2)) : text;
  if (existsSync(join(path, "model_index.json"))) return { kind: "folder", folder: resolve(path) };
  const kind = statSync(path, { throwIfNoEntry: false });
  if (kind?.isFile()) return { kind: "file", file: resolve(path) };
  if (isWeightFile(path)) throw new ModelNotFoundError(`There is nothing at ${resolve(path)}; check the path.`);
  if (/^\.{0,2}[/\\]/.test(path) || isAbsolute(path) || /^\.{1,2}$/.test(path)) {
    const problem = kind === undefined ? "there is nothing at" : "no model_index.json in";
    throw new ModelNotFoundError(
      `${text} cannot be registered: ${problem} ${resolve(path)}; give a model folder in the layout of diffusers, or a .safetensors or .gguf file.`,
    );
  }
  const site = `${endpoint.replace(/\/+$/, "")}/`;
  const repository = text.startsWith(site) ? text.slice(site.length).replace(/\/+$/, "") : text;
  if (repositoryPattern.test(repository) && !repository.includes("..")) return { kind: "repository", repository };
  const names = knownModels.map(({ name }) => name).join(", ");
  throw new ModelNotFoundError(
    `There is no known model ${JSON.stringify(text.slice(0, 100))}; give one of ${names}, owner/repo of the Hugging Face Hub, a folder, or a file.`,
  );
}

/** The name under which a target is installed when nothing else has it. */
export function proposedName(target: PullTarget): string {
  switch (target.kind) {
    case "repository":
      return basename(target.repository);
    case "folder":
      return basename(target.folder);
    case "file":
      return basename(target.file, extname(target.file));
  }
}
