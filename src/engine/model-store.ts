/**
 * The folder of installed models, `$EASEL_HOME/models`: `NAME/` holds a model's files, `NAME.link` points to a folder
 * elsewhere (one line instead of a copy of many gigabytes, and it works across disks), and `.pulling-NAME/` is a
 * download on its way.
 */
import { mkdir, readdir, readFile, rename, rm, stat, writeFile } from "node:fs/promises";
import { isAbsolute, join } from "node:path";
import { z } from "zod";
import { EaselError, ModelNotFoundError } from "../errors.ts";
import { lockFile, pullingFolder, pullingPrefix, removeFolder } from "../weights/hub/download-model.ts";
import { fileFault } from "../weights/hub/file-fault.ts";
import { tryLock } from "../weights/hub/folder-lock.ts";
import { type Completion, completion, readManifest } from "../weights/hub/manifest.ts";
import { checkModelFolder, folderBytes } from "../weights/model-folder.ts";

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
  origin: "installed" | "linked";
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
  /** The folder of a registered model, which stays as it is. */
  keptFolder: string | undefined;
}

export class ModelStore {
  readonly #root: string;

  constructor(home: string) {
    this.#root = join(home, "models");
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

  /** Forgets a registered folder; does nothing when there is none of that name. Throws `io_failed`. */
  async unregister(name: string): Promise<void> {
    const path = join(this.#root, name + linkSuffix);
    await rm(path, { force: true }).catch((error: unknown) => {
      throw fileFault(path, error);
    });
  }

  /**
   * Removes an installed model, a registration, or what an unfinished download has left.
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
      ...(stored?.origin === "installed" ? [folder] : []),
      ...(unfinished ? [pullingFolder(folder)] : []),
    ];
    let freedBytes = 0;
    for (const path of doomed) {
      freedBytes += await folderBytes(path);
      await removeFolder(path);
    }
    await this.unregister(name);
    return { freedBytes, keptFolder: stored?.origin === "linked" ? stored.folder : undefined };
  }

  async #read(entry: string): Promise<StoredModel | undefined> {
    if (entry.startsWith(".")) return undefined;
    const path = join(this.#root, entry);
    if (await isFile(join(path, "model_index.json"))) {
      const { repository, license } = (await readManifest(path)) ?? {};
      return { name: entry, folder: path, origin: "installed", repository, license };
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

async function isFile(path: string): Promise<boolean> {
  return await stat(path).then(
    (file) => file.isFile(),
    () => false,
  );
}
