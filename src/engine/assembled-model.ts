/**
 * A model out of single files, as Black Forest Labs publish them and ComfyUI's users have them: a small folder in the layout
 * of diffusers, whose configurations are derived from the files' tensors and whose weights stay in the files.
 */
import { createHash, randomUUID } from "node:crypto";
import { existsSync } from "node:fs";
import { copyFile, mkdir, readdir, rename, rm, writeFile } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { EaselError, ModelInvalidError, ModelNotFoundError } from "../errors.ts";
import { parseClipTextConfig } from "../models/clip-text-encoder.ts";
import { ConfigReader } from "../models/config-reader.ts";
import { parseT5Config } from "../models/t5-encoder.ts";
import { networkGraphs } from "../pipelines/network-graphs.ts";
import { FlowMatchEulerScheduler } from "../schedulers/flow-match-euler.ts";
import { ClipTokenizer } from "../tokenizers/clip-tokenizer.ts";
import { T5Tokenizer } from "../tokenizers/t5-tokenizer.ts";
import { fileFault } from "../weights/hub/file-fault.ts";
import { modelFilesEntry, type NetworkPlaces, openNetwork } from "../weights/model-files.ts";
import {
  agrees,
  type ConfigJson,
  deriveConfig,
  publishedScheduler,
  toldConfig,
} from "../weights/single-file-config.ts";
import { type Component, components, networksIn, titles } from "../weights/single-file.ts";
import { WeightCounter } from "../weights/weight-count.ts";
import { WeightSource } from "../weights/weight-source.ts";
import {
  type Companion,
  findTokenizers,
  type FoundNetwork,
  type Lesser,
  NetworkSearch,
  openPlace,
  placeFlags,
  readConfig,
  readJson,
  tokenizerFolders,
} from "./network-search.ts";

/** What a person points at; all paths are absolute. */
export interface SingleFiles {
  /** Holds the transformer, and perhaps more. */
  file: string;
  /** Files or diffusers folders of single networks, where they are not to be found automatically. */
  given?: Readonly<Partial<Record<Component, string>>> | undefined;
  /** A folder with `tokenizer/` and `tokenizer_2/`, and perhaps with configurations. */
  tokenizers?: string | undefined;
}

/** A model that could be assembled. */
export interface Assembly {
  networks: NetworkPlaces;
  configs: Readonly<Record<Component, ConfigJson>>;
  scheduler: ConfigJson;
  /** The folder whose tokenizers fit; undefined when none was found. */
  tokenizers: string | undefined;
  /** What was found by itself, in one sentence. */
  notice: string | undefined;
}

const lesser = components.filter((component) => component !== "transformer");

/**
 * Decides where each part of the model comes from, without writing anything. A network comes from the place that was given,
 * from the file itself, from a file near it, or from one of `companions`.
 *
 * @throws ModelInvalidError when a part is missing, does not fit, or could be one of several.
 * @throws ModelNotFoundError when a given file or folder is not there.
 * @throws WeightsInvalidError when a file is damaged.
 */
export function planAssembly(
  { file, given = {}, tokenizers }: SingleFiles,
  companions: readonly Companion[],
): Assembly {
  for (const path of [file, ...Object.values(given), ...(tokenizers === undefined ? [] : [tokenizers])]) {
    if (!existsSync(path)) throw new ModelNotFoundError(`There is nothing at ${path}; check the path.`);
  }
  // 1. What the file holds.
  const held = networksIn(file);
  requireTransformer(file, held);
  const transformer = toldConfig("transformer", WeightSource.openFile(file, "transformer"));
  if (transformer["in_channels"] !== transformer["out_channels"]) {
    throw new ModelInvalidError(
      `${basename(file)} holds a transformer that draws from other inputs than text (as Fill, Canny and Depth do), which Easel cannot run.`,
    );
  }

  // 2. The other networks.
  const search = new NetworkSearch(file, transformer, companions);
  const itself: FoundNetwork = { place: file, hint: undefined, from: undefined };
  const parts: Record<Component, FoundNetwork> = {
    transformer: itself,
    vae: itself,
    text_encoder: itself,
    text_encoder_2: itself,
  };
  const missing: Lesser[] = [];
  for (const component of lesser) {
    const place = given[component];
    if (place === undefined && held.includes(component)) continue;
    const found = place === undefined ? search.find(component) : search.check(component, place);
    if (found === undefined) missing.push(component);
    else parts[component] = found;
  }
  if (missing.length > 0) throw missingNetworks(file, missing);

  // 3. Tokenizers, which no such file holds, and with them what else a folder tells.
  const texts = (["text_encoder", "text_encoder_2"] as const).map((component) => {
    return [component, toldConfig(component, openPlace(parts[component].place, component))] as const;
  });
  const folder = findTokenizers(file, tokenizers, companions, texts);

  // 4. The configurations.
  const folders = [...(folder === undefined ? [] : [folder.folder]), dirname(file)];
  const hintsFor = (component: Component) =>
    [parts[component].hint, ...folders.map((path) => readConfig(path, component))].filter((hint) => hint !== undefined);
  const configs = Object.fromEntries(
    components.map((component) => {
      return [component, deriveConfig(component, openPlace(parts[component].place, component), hintsFor(component))];
    }),
  ) as Record<Component, ConfigJson>;

  const from = [...lesser.flatMap((component) => parts[component].from ?? []), ...(folder?.from ?? [])];
  return {
    networks: Object.fromEntries(
      components.map((component) => [component, parts[component].place]),
    ) as unknown as NetworkPlaces,
    configs,
    scheduler: schedulerOf(transformer, folder?.folder),
    tokenizers: folder?.folder,
    notice: from.length === 0 ? undefined : `${basename(file)} is used with ${from.join(", ")}.`,
  };
}

/**
 * Writes the model's folder, which exists, and proves it: every tensor is there in its shape, and the tokenizers can be used.
 * `tokenizers` is the folder to copy them from; undefined when they are in place already.
 *
 * @throws ModelInvalidError when a part does not fit the others.
 * @throws EaselError `io_failed`.
 */
export async function writeAssembly(folder: string, assembly: Assembly, tokenizers: string | undefined): Promise<void> {
  try {
    if (tokenizers !== undefined) {
      for (const name of tokenizerFolders) await copyTexts(join(tokenizers, name), join(folder, name));
    }
    const files = modelFilesEntry(assembly.networks);
    await writeFile(join(folder, files.name), files.text);
    await writeJson(join(folder, "scheduler"), "scheduler_config.json", assembly.scheduler);
    for (const component of components) {
      await writeJson(join(folder, component), "config.json", assembly.configs[component]);
    }
    await writeJson(folder, "model_index.json", { _class_name: "FluxPipeline" });
  } catch (error) {
    throw fileFault(folder, error);
  }
  proveAssembly(folder);
}

/**
 * The folder of an assembled model that is used without being registered: `ROOT/KEY/NAME`, written when it is not there yet.
 * Throws as `writeAssembly` does, and `model_invalid` when there are no tokenizers.
 */
export async function keepAssembly(root: string, name: string, assembly: Assembly): Promise<string> {
  if (assembly.tokenizers === undefined) throw missingTokenizers(assembly.networks.transformer);
  const key = createHash("sha256").update(JSON.stringify(assembly)).digest("hex").slice(0, 16);
  const folder = join(root, key, name);
  if (existsSync(folder)) return folder;
  const aside = join(root, `${key}.${randomUUID()}.tmp`);
  try {
    await mkdir(aside, { recursive: true });
    await writeAssembly(aside, assembly, assembly.tokenizers);
    await mkdir(join(root, key), { recursive: true });
    await rename(aside, folder);
  } catch (error) {
    await rm(aside, { recursive: true, force: true });
    if (!existsSync(folder)) throw fileFault(folder, error); // else another process was faster
  }
  return folder;
}

/** What an assembly needs that must be fetched, in one sentence with what to do. */
export function missingTokenizers(file: string): EaselError {
  return new ModelInvalidError(
    `${basename(file)} needs CLIP's and T5's tokenizers, which such files do not hold and no installed model has: ` +
      `fetch them with: easel pull ${file}, or give a folder that has tokenizer/ and tokenizer_2/ with: ` +
      `easel pull ${file} --tokenizers FOLDER`,
  );
}

function requireTransformer(file: string, held: readonly Component[]): void {
  if (held.includes("transformer")) return;
  const [other] = held;
  const flag = other !== undefined && other !== "transformer" ? placeFlags[other] : undefined;
  throw new ModelInvalidError(
    flag === undefined
      ? `${basename(file)} holds no network of a FLUX.1 model that Easel knows.`
      : `${basename(file)} holds only a ${titles[other!]}; give the transformer's file, and this one with ${flag}.`,
  );
}

function missingNetworks(file: string, missing: readonly Lesser[]): ModelInvalidError {
  const what = missing.map((component) => `a ${titles[component]}`).join(" and ");
  const flags = missing.map((component) => `${placeFlags[component]} FILE`).join(" ");
  return new ModelInvalidError(
    `${basename(file)} needs ${what} that fits it, and there is none near it nor in an installed model; ` +
      `say where with: easel pull ${file} ${flags}`,
  );
}

/** The folder's own scheduler where its transformer is of the same kind, else as it was published. */
function schedulerOf(transformer: ConfigJson, folder: string | undefined): ConfigJson {
  const config = folder === undefined ? undefined : readConfig(folder, "transformer");
  const own = config !== undefined && agrees(config, transformer);
  const scheduler = own ? readJson(join(folder!, "scheduler", "scheduler_config.json")) : undefined;
  return scheduler ?? publishedScheduler(transformer["guidance_embeds"] === true);
}

async function writeJson(folder: string, name: string, value: ConfigJson): Promise<void> {
  await mkdir(folder, { recursive: true });
  await writeFile(join(folder, name), `${JSON.stringify(value, undefined, 2)}\n`);
}

/** Copies a tokenizer's files. */
async function copyTexts(from: string, to: string): Promise<void> {
  await mkdir(to, { recursive: true });
  for (const name of await readdir(from)) {
    if (/\.(?:json|txt)$/.test(name)) await copyFile(join(from, name), join(to, name));
  }
}

/** Writes every graph on the headers alone, and has both tokenizers read a sentence. */
function proveAssembly(folder: string): void {
  for (const component of components) {
    for (const graph of networkGraphs(folder, component)) graph(new WeightCounter(openNetwork(folder, component)));
  }
  FlowMatchEulerScheduler.fromConfig(ConfigReader.read(join(folder, "scheduler"), "scheduler_config.json"));
  const clip = parseClipTextConfig(ConfigReader.read(join(folder, "text_encoder")));
  const t5 = parseT5Config(ConfigReader.read(join(folder, "text_encoder_2")));
  const sentence = "A white cat resting in Rome";
  const clipIds = ClipTokenizer.load(join(folder, "tokenizer")).encode(sentence, clip.maxPositionEmbeddings).ids;
  const t5Ids = T5Tokenizer.load(join(folder, "tokenizer_2")).encode(sentence, 64).ids;
  if (clipIds.some((id) => id >= clip.vocabSize) || t5Ids.some((id) => id >= t5.vocabSize)) {
    throw new ModelInvalidError(
      "The tokenizers have more words than the text encoders know; they belong to other ones.",
    );
  }
}
