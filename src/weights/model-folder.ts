/** A model's folder in the diffusers layout, looked at without running it: is it whole, how large, in which format. */
import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { ModelInvalidError } from "../errors.ts";
import { hasModelFiles, networkPlaces, openNetwork } from "./model-files.ts";
import { components } from "./single-file.ts";
import { encodedBytes, type Encoding, valueCount } from "./tensor-location.ts";

const descriptions = ["scheduler", "tokenizer", "tokenizer_2"];

const indexSchema = z.object({ _class_name: z.string() });
const pipelineClass = "FluxPipeline";

/**
 * Throws `model_invalid` or `weights_invalid` when something is missing, cut off or of another kind: the headers of all
 * weight files are read, and compared with the files' sizes.
 */
export async function checkModelFolder(folder: string): Promise<void> {
  const index = await readFile(join(folder, "model_index.json"), "utf8").catch((cause: unknown) => {
    const message = `${folder} is not a model folder in the layout of diffusers: it has no model_index.json.`;
    throw new ModelInvalidError(message, { cause });
  });
  checkModelIndex(folder, index);
  for (const part of [...components, ...descriptions]) {
    const names = await readdir(join(folder, part)).catch(() => []);
    if (!names.some((name) => name.endsWith(".json"))) {
      throw new ModelInvalidError(`${folder} is incomplete: its folder "${part}" has no description; copy it whole.`);
    }
  }
  for (const network of components) openNetwork(folder, network);
}

/** Throws `model_invalid` unless `text`, a `model_index.json`, describes a pipeline that Easel runs. */
export function checkModelIndex(model: string, text: string): void {
  let className: string | undefined;
  try {
    className = indexSchema.parse(JSON.parse(text))["_class_name"];
  } catch (cause) {
    throw new ModelInvalidError(`The model_index.json of ${model} is damaged.`, { cause });
  }
  if (className !== pipelineClass) {
    throw new ModelInvalidError(
      `${model} is a ${className.slice(0, 100)}; Easel runs FLUX.1 models (${pipelineClass}).`,
    );
  }
}

/** Bytes that a model takes on disk, with the files elsewhere that belong to it. */
export async function modelBytes(folder: string): Promise<number> {
  const elsewhere = hasModelFiles(folder) ? new Set(Object.values(networkPlaces(folder))) : [];
  const sizes = await Promise.all(
    [...elsewhere].map(async (path) => {
      const place = await stat(path).catch(() => undefined);
      return place?.isFile() ? place.size : await folderBytes(path);
    }),
  );
  return sizes.reduce((total, size) => total + size, await folderBytes(folder));
}

/** Bytes that the folder's files take, those behind links included. */
export async function folderBytes(folder: string): Promise<number> {
  const entries = await readdir(folder, { recursive: true }).catch(() => []);
  const sizes = await Promise.all(
    entries.map(async (entry) => {
      const file = await stat(join(folder, entry)).catch(() => undefined);
      return file?.isFile() ? file.size : 0;
    }),
  );
  return sizes.reduce((total, size) => total + size, 0);
}

const precisionNames: Readonly<Partial<Record<Encoding, string>>> = {
  float32: "fp32",
  float16: "fp16",
  bfloat16: "bf16",
  float8_e4m3: "fp8",
  float8_e5m2: "fp8",
};

/** The number format of most of the transformer's values, such as "bf16" or "q4_k"; undefined when it cannot be told. */
export function storedPrecision(folder: string): string | undefined {
  try {
    const bytes = new Map<Encoding, number>();
    for (const { encoding, shape } of openNetwork(folder, "transformer").tensors()) {
      bytes.set(encoding, (bytes.get(encoding) ?? 0) + (encodedBytes(encoding, valueCount(shape)) ?? 0));
    }
    const [most] = [...bytes].sort(([, a], [, b]) => b - a);
    return most && (precisionNames[most[0]] ?? most[0]);
  } catch {
    return undefined;
  }
}
