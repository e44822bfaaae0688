/** `--model` of `easel upscale`: a name, or, on the command line only, a file. */
import { statSync } from "node:fs";
import { UpscalerCatalog, upscalerName } from "../engine/upscaler-catalog.ts";
import { ModelNotFoundError } from "../errors.ts";
import { readUpscalerNetwork } from "../models/upscaler-network.ts";

export interface UpscalerChoice {
  catalog: UpscalerCatalog;
  /** The chosen one's name in the catalog; undefined is the default. */
  name: string | undefined;
}

/** What the flag names, and a catalog in which it is found. Throws `model_not_found` for a file that is not there. */
export async function chooseUpscaler(model: string | undefined, home: string): Promise<UpscalerChoice> {
  const catalog = new UpscalerCatalog({ home });
  if (model === undefined || (await catalog.names()).includes(model)) return { catalog, name: model };
  if (isFile(model)) return { catalog: new UpscalerCatalog({ home, files: [model] }), name: upscalerName(model) };
  if (/[/\\]|\.(safetensors|onnx|pth?|ckpt)$/i.test(model)) {
    throw new ModelNotFoundError(`--model ${model}: there is no such file.`);
  }
  return { catalog, name: model };
}

export function isFile(path: string): boolean {
  return statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
}

/** Whether a path leads to an upscaler's file; one that is damaged, or of another kind, is none. */
export function isUpscalerFile(path: string): boolean {
  if (!isFile(path)) return false;
  if (/\.(onnx|pth?|ckpt)$/i.test(path)) return true; // pickles are refused with what to do
  if (!/\.safetensors$/i.test(path)) return false;
  try {
    readUpscalerNetwork(path);
    return true;
  } catch {
    return false;
  }
}
