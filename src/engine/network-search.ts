/** Looks for what a transformer's file lacks: beside it, where ComfyUI keeps such files, and in models that are installed. */
import { existsSync, readFileSync, statSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { ModelInvalidError } from "../errors.ts";
import { networkPlaces, openNetwork } from "../weights/model-files.ts";
import { weightFilesNear } from "../weights/sibling-files.ts";
import { agrees, type ConfigJson, toldConfig } from "../weights/single-file-config.ts";
import { type Component, networksIn, titles } from "../weights/single-file.ts";
import { WeightSource } from "../weights/weight-source.ts";

/** A model that may lend what is missing. */
export interface Companion {
  name: string;
  folder: string;
}

/** A network that was found. */
export interface FoundNetwork {
  /** A checkpoint file, or a folder in the diffusers layout. */
  place: string;
  /** What is said about its configuration where it was found. */
  hint: ConfigJson | undefined;
  /** What to tell about it; undefined when it was given. */
  from: string | undefined;
}

/** The command-line flags that say where a network is. */
export const placeFlags = { vae: "--vae", text_encoder: "--clip", text_encoder_2: "--t5" } as const;
/** A network besides the transformer. */
export type Lesser = keyof typeof placeFlags;

export const tokenizerFolders = ["tokenizer", "tokenizer_2"];

/** Which file to take when several fit, the best first: the names under which they are published. */
const publishedNames: Readonly<Record<Lesser, readonly string[]>> = {
  vae: ["ae.safetensors", "ae.sft"],
  text_encoder: ["clip_l.safetensors"],
  text_encoder_2: ["t5xxl_fp16.safetensors", "t5xxl_fp8_e4m3fn_scaled.safetensors", "t5xxl_fp8_e4m3fn.safetensors"],
};

/** Looks for networks that fit one transformer. */
export class NetworkSearch {
  readonly #file: string;
  readonly #transformer: ConfigJson;
  readonly #companions: readonly Companion[];
  #near: { path: string; holds: Component[] }[] | undefined;

  constructor(file: string, transformer: ConfigJson, companions: readonly Companion[]) {
    this.#file = file;
    this.#transformer = transformer;
    this.#companions = companions;
  }

  /** A place that somebody named. Throws `ModelInvalidError` when it holds another network, or one that does not fit. */
  check(component: Lesser, place: string): FoundNetwork {
    const told = toldConfig(component, openPlace(place, component));
    if (!this.#fits(component, told)) {
      throw new ModelInvalidError(
        `The ${titles[component]} in ${basename(place)} does not fit the transformer in ${basename(this.#file)}: ` +
          `they were made for another width.`,
      );
    }
    return { place, hint: readJson(join(place, "config.json")), from: undefined };
  }

  /** The one that fits near the file, or else in a companion. Throws `ModelInvalidError` when several could be meant. */
  find(component: Lesser): FoundNetwork | undefined {
    const near = this.#nearFiles().filter(
      ({ path, holds }) => holds.includes(component) && this.#holdsFitting(component, path),
    );
    const best = publishedNames[component]
      .map((name) => near.find(({ path }) => basename(path).toLowerCase() === name))
      .find((candidate) => candidate !== undefined);
    const chosen = best ?? near[0];
    if (best === undefined && near.length > 1) {
      throw new ModelInvalidError(
        `Several files near ${basename(this.#file)} hold a ${titles[component]} that fits: ` +
          `${near
            .slice(0, 5)
            .map(({ path }) => path)
            .join(", ")}; choose with: easel pull ${this.#file} ${placeFlags[component]} FILE`,
      );
    }
    if (chosen !== undefined) return { place: chosen.path, hint: undefined, from: chosen.path };

    // A model folder around the file, as the published repositories are, then models that are installed.
    for (const { name, folder } of [{ name: dirname(this.#file), folder: dirname(this.#file) }, ...this.#companions]) {
      const config = readConfig(folder, component);
      if (config === undefined) continue;
      try {
        const told = toldConfig(component, openNetwork(folder, component));
        if (!agrees(config, told) || !this.#fits(component, told)) continue;
        const place = networkPlaces(folder)[component];
        return { place, hint: config, from: `the ${titles[component]} of ${name}` };
      } catch {
        continue; // a damaged model lends nothing
      }
    }
    return undefined;
  }

  #nearFiles(): { path: string; holds: Component[] }[] {
    this.#near ??= weightFilesNear(this.#file).map((path) => {
      try {
        return { path, holds: networksIn(path) };
      } catch {
        return { path, holds: [] }; // somebody else's file, in whatever state
      }
    });
    return this.#near;
  }

  #holdsFitting(component: Lesser, path: string): boolean {
    try {
      return this.#fits(component, toldConfig(component, WeightSource.openFile(path, component)));
    } catch {
      return false;
    }
  }

  #fits(component: Lesser, told: ConfigJson): boolean {
    const transformer = this.#transformer;
    switch (component) {
      case "vae":
        return transformer["in_channels"] === 4 * Number(told["latent_channels"]);
      case "text_encoder":
        return transformer["pooled_projection_dim"] === told["hidden_size"];
      case "text_encoder_2":
        return transformer["joint_attention_dim"] === told["d_model"];
    }
  }
}

export function openPlace(place: string, component: Component): WeightSource {
  const isFile = statSync(place, { throwIfNoEntry: false })?.isFile() === true;
  return isFile ? WeightSource.openFile(place, component) : WeightSource.openFolder(place);
}

/**
 * The folder whose tokenizers are those of the text encoders, going by the vocabularies' sizes: the one given, the one around
 * the file, or a companion's.
 */
export function findTokenizers(
  file: string,
  given: string | undefined,
  companions: readonly Companion[],
  texts: readonly (readonly [Component, ConfigJson])[],
): { folder: string; from: string[] } | undefined {
  const disagreeing = (folder: string) =>
    texts.find(([component, told]) => {
      const size = readConfig(folder, component)?.["vocab_size"];
      return size !== undefined && size !== told["vocab_size"];
    });
  if (given !== undefined) {
    if (!hasTokenizers(given)) {
      throw new ModelInvalidError(`${given} has no tokenizer/ and tokenizer_2/; give a folder that has both.`);
    }
    const other = disagreeing(given);
    if (other !== undefined) {
      throw new ModelInvalidError(
        `The tokenizers in ${given} are those of another ${titles[other[0]]}, with another vocabulary; give a folder with this one's.`,
      );
    }
    return { folder: given, from: [] };
  }
  for (const { name, folder } of [{ name: dirname(file), folder: dirname(file) }, ...companions]) {
    // An installed model that says nothing of its vocabulary is no proof of anything.
    const isKnown =
      folder === dirname(file) || texts.every(([component]) => readConfig(folder, component) !== undefined);
    if (hasTokenizers(folder) && isKnown && disagreeing(folder) === undefined) {
      return { folder, from: [`the tokenizers of ${name}`] };
    }
  }
  return undefined;
}

function hasTokenizers(folder: string): boolean {
  return tokenizerFolders.every((name) => existsSync(join(folder, name)));
}

export function readConfig(folder: string, component: Component): ConfigJson | undefined {
  return readJson(join(folder, component, "config.json"));
}

/** undefined when there is no such file, or it is no JSON object. */
export function readJson(path: string): ConfigJson | undefined {
  try {
    const value: unknown = JSON.parse(readFileSync(path, "utf8"));
    return typeof value === "object" && value !== null && !Array.isArray(value) ? (value as ConfigJson) : undefined;
  } catch {
    return undefined;
  }
}
