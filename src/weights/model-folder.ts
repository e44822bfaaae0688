/** A model's folder in the diffusers layout, looked at without running it: is it whole, how large, in which format. */
import { readFile, readdir, stat } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { ModelInvalidError } from "../errors.ts";
import { readSafetensorsHeader } from "./safetensors.ts";
import { WeightSource } from "./weight-source.ts";

const networks = ["text_encoder", "text_encoder_2", "transformer", "vae"];
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
  for (const part of [...networks, ...descriptions]) {
    const names = await readdir(join(folder, part)).catch(() => []);
    if (!names.some((name) => name.endsWith(".json"))) {
      throw new ModelInvalidError(`${folder} is incomplete: its folder "${part}" has no description; copy it whole.`);
    }
  }
  for (const network of networks) WeightSource.openFolder(join(folder, network));
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

const precisionNames: Readonly<Record<string, string>> = { float32: "fp32", float16: "fp16", bfloat16: "bf16" };

/** The number format in which the transformer is stored, such as "bf16"; undefined when it cannot be told. */
export async function storedPrecision(folder: string): Promise<string | undefined> {
  try {
    const transformer = join(folder, "transformer");
    const file = (await readdir(transformer)).find((name) => name.endsWith(".safetensors"));
    const [tensor] = file === undefined ? [] : readSafetensorsHeader(join(transformer, file)).values();
    return tensor && (precisionNames[tensor.encoding] ?? tensor.encoding);
  } catch {
    return undefined;
  }
}
