/**
 * The folder of installed models, `$EASEL_HOME/models`: `NAME/` holds a model's files, or its description where it was
 * assembled of files elsewhere; `NAME.link` points to a folder elsewhere (one line instead of a copy of many gigabytes, and it
 * works across disks), and `.pulling-NAME/` is a download on its way.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { EaselError, ModelNotFoundError } from "../errors.ts";
import { removeEntries } from "../weights/conversion-cache.ts";
import { lockFile, pullingFolder, pullingPrefix, removeFolder, replaceFolder } from "../weights/hub/download-model.ts";
import { fileFault } from "../weights/hub/file-fault.ts";
import { lockFolder, tryLock } from "../weights/hub/folder-lock.ts";
import { type Completion, completion, readManifest } from "../weights/hub/manifest.ts";
import { hasModelFiles, networkPlaces, openNetwork } from "../weights/model-files.ts";
import { checkModelFolder, folderBytes } from "../weights/model-folder.ts";
import { components } from "../weights/single-file.ts";
import { type Assembly, writeAssembly } from "./assembled-model.ts";

const linkSuffix = ".link";
const linkSchema = z.object({
  folder: z.string().refine(isAbsolute),
  repository: z.string().optional(),
  commit: z.string().optional(),
  license: z.string().optional(),
});

export type ModelLink = z.infer<typeof linkSchema>;

export interface StoredModel {
  name: string;
  /** Absolute path, in the diffusers layout. */
  folder: string;
  /** Its weights are here, in a folder elsewhere, or in files elsewhere. */
  origin: "installed" | "linked" | "assembled";
  /** Where it was pulled from; undefined when somebody put it there. */
  repository: string | undefined;
  license: string | undefined;
}

export interface UnfinishedModel extends Completion {
  repository: string;
  license: string | undefined;
}

export interface Removal {
  freedBytes: number;
  /** The folder or files of a registered model, which stay as they are. */
  kept: string[];
}

export class ModelStore {
  readonly #root: string;
  readonly #cacheDir: string;

  constructor(home: string) {
    this.#root = join(home, "models");
    this.#cacheDir = join(home, "cache");
  }

  /** Where a model of that name goes. */
  folderOf(name: string): string {
    return join(this.#root, name);
  }

  async list(): Promise<StoredModel[]> {
    const entries = await readdir(this.#root).catch(() => []);
    const models = await Promise.all(entries.sort().map((entry) => this.#read(entry)));
    return models.filter((model) => model !== undefined);
  }

  /** Models whose download has not ended, by name. */
  async unfinished(): Promise<Map<string, UnfinishedModel>> {
    const found = new Map<string, UnfinishedModel>();
    for (const entry of await readdir(this.#root).catch(() => [])) {
      const manifest = entry.startsWith(pullingPrefix) ? await readManifest(join(this.#root, entry)) : undefined;
      if (!manifest) continue;
      const { repository, license } = manifest;
      const here = await completion(join(this.#root, entry), manifest);
      found.set(entry.slice(pullingPrefix.length), { ...here, repository, license });
    }
    return found;
  }

  /**
   * Registers a folder under a name, in the place of an older version that was pulled.
   * Throws `model_invalid`, `weights_invalid`, `io_failed`.
   */
  async register(name: string, link: ModelLink): Promise<void> {
    await checkModelFolder(link.folder);
    const path = join(this.#root, name + linkSuffix);
    try {
      await mkdir(this.#root, { recursive: true, mode: 0o700 });
      await writeFile(`${path}.new`, `${JSON.stringify(link, undefined, 2)}\n`, { flush: true });
      await rename(`${path}.new`, path);
    } catch (error) {
      throw fileFault(path, error);
    }
    const folder = this.folderOf(name);
    if ((await readManifest(folder))?.repository === link.repository) await removeFolder(folder);
  }

  /**
   * Puts a model of single files under a name, in the place of an earlier one. `bringTokenizers` puts `tokenizer/` and
   * `tokenizer_2/` into the folder it is given, when the assembly has none. Throws `model_invalid`, `io_failed`, and what
   * `bringTokenizers` throws; nothing is changed then.
   */
  async assemble(
    name: string,
    assembly: Assembly,
    bringTokenizers: (folder: string) => Promise<void>,
    signal: AbortSignal,
  ): Promise<void> {
    const folder = this.folderOf(name);
    const aside = join(this.#root, `.assembling-${name}`);
    const lock = await lockFolder(lockFile(folder), { signal, onWaiting: () => {} });
    try {
      await removeFolder(aside);
      await mkdir(aside, { recursive: true });
      if (assembly.tokenizers === undefined) await bringTokenizers(aside);
      await writeAssembly(aside, assembly, assembly.tokenizers);
      await replaceFolder(folder, aside);
    } catch (error) {
      await rm(aside, { recursive: true, force: true });
      throw fileFault(folder, error);
    } finally {
      await lock[Symbol.asyncDispose]();
    }
  }

  /** Forgets a registered folder; does nothing when there is none of that name. Throws `io_failed`. */
  async unregister(name: string): Promise<void> {
    const path = join(this.#root, name + linkSuffix);
    await rm(path, { force: true }).catch((error: unknown) => {
      throw fileFault(path, error);
    });
  }

  /**
   * Removes an installed model, a registration, or what an unfinished download has left; and what was converted of its weights.
   * Throws `model_not_found`; `io_failed` also while it is being pulled.
   */
  async remove(name: string): Promise<Removal> {
    const folder = this.folderOf(name);
    const stored = (await this.list()).find((model) => model.name === name);
    const unfinished = (await this.unfinished()).has(name);
    if (!stored && !unfinished) throw new ModelNotFoundError(`There is no installed model ${JSON.stringify(name)}.`);

    await using lock = await tryLock(lockFile(folder));
    if (!lock) throw new EaselError("io_failed", `${name} is being pulled by another easel; stop that one first.`);
    const doomed = [
      ...(stored && stored.origin !== "linked" ? [folder] : []),
      ...(unfinished ? [pullingFolder(folder)] : []),
    ];
    const kept = keptPlaces(stored);
    let freedBytes = stored === undefined ? 0 : await this.#removeConverted(stored);
    for (const path of doomed) {
      freedBytes += await folderBytes(path);
      await removeFolder(path);
    }
    await this.unregister(name);
    return { freedBytes, kept };
  }

  /** Weights that another model shares stay. */
  async #removeConverted(stored: StoredModel): Promise<number> {
    const others = (await this.list()).filter(({ name }) => name !== stored.name);
    return await removeEntries(this.#cacheDir, {
      of: weightFiles(stored.folder),
      except: others.flatMap(({ folder }) => weightFiles(folder)),
    });
  }

  async #read(entry: string): Promise<StoredModel | undefined> {
    if (entry.startsWith(".")) return undefined;
    const path = join(this.#root, entry);
    if (await isFile(join(path, "model_index.json"))) {
      const { repository, license } = (await readManifest(path)) ?? {};
      const origin = hasModelFiles(path) ? "assembled" : "installed";
      return { name: entry, folder: path, origin, repository, license };
    }
    if (!entry.endsWith(linkSuffix)) return undefined;
    try {
      const { folder, repository, license } = linkSchema.parse(JSON.parse(await readFile(path, "utf8")));
      return { name: entry.slice(0, -linkSuffix.length), folder, origin: "linked", repository, license };
    } catch {
      return undefined;
    }
  }
}

/** Where a registered model's weights are; nothing of one that is installed. */
function keptPlaces(stored: StoredModel | undefined): string[] {
  if (stored === undefined || stored.origin === "installed") return [];
  if (stored.origin === "linked") return [stored.folder];
  try {
    return [...new Set(Object.values(networkPlaces(stored.folder)))];
  } catch {
    return []; // a damaged description can be removed too
  }
}

/** The files with a model's weights; of what is gone or damaged, where they were. */
function weightFiles(folder: string): string[] {
  return components.flatMap((component) => {
    try {
      return openNetwork(folder, component).files();
    } catch {
      return join(folder, component);
    }
  });
}

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (file) => file.isFile(),
    () => false,
  );
}
