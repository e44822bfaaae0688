/**
 * The LoRAs that can be asked for by name: the safetensors files under the home folder, and those that the operator named.
 * As with models, a request's name is only ever compared with this list; it never becomes a path.
 */
import { readdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import { InvalidRequestError } from "../errors.ts";
import type { LoraFile } from "../pipelines/generation-plan.ts";

/** A LoRA by its name, and how strongly to apply it. */
export interface LoraChoice {
  name: string;
  /** 1, the default, is as trained; may be negative. */
  scale?: number | undefined;
}

export interface LoraCatalogOptions {
  /** Folder whose `loras/` holds installed LoRAs. Default: none are installed. */
  home?: string | undefined;
  /** Further files; each is named after its last component. */
  files?: readonly string[] | undefined;
}

const extension = ".safetensors";
/** The folder of a home that holds LoRAs. */
export const lorasFolder = (home: string): string => join(home, "loras");

export class LoraCatalog {
  readonly #folder: string | undefined;
  readonly #files: readonly string[];

  constructor({ home, files = [] }: LoraCatalogOptions) {
    this.#folder = home === undefined ? undefined : lorasFolder(home);
    this.#files = files.map((file) => resolve(file));
  }

  /** Name → file; one that the operator named wins over an installed one. */
  async list(): Promise<Map<string, string>> {
    return new Map([...(await this.#installed()), ...this.#files].map((file) => [loraName(file), file]));
  }

  async #installed(): Promise<string[]> {
    const folder = this.#folder;
    if (folder === undefined) return [];
    const names = await readdir(folder).catch(() => []);
    return names.filter((name) => name.endsWith(extension)).map((name) => join(folder, name));
  }

  /** The file of each choice. Throws `invalid_request` naming those that are here. */
  async resolve(choices: readonly LoraChoice[]): Promise<LoraFile[]> {
    if (choices.length === 0) return [];
    const files = await this.list();
    return choices.map(({ name, scale = 1 }) => {
      const file = files.get(name);
      if (file !== undefined) return { file, scale };
      const here = [...files.keys()].join(", ") || "none";
      throw new InvalidRequestError(
        "lora",
        `There is no LoRA ${JSON.stringify(name.slice(0, 100))}; available: ${here}. ` +
          `Put its file into $EASEL_HOME/loras.`,
      );
    });
  }
}

/** What the LoRA in a file is called. */
export function loraName(file: string): string {
  return basename(file, extension);
}
