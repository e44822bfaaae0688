/** `--model` of `easel upscale`: a name, or, on the command line only, a file; and files installed under a name. */
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { interpolation, UpscalerCatalog, upscalerName, upscalersFolder } from "../engine/upscaler-catalog.ts";
import { EaselError, InvalidRequestError, ModelNotFoundError } from "../errors.ts";
import { readUpscalerNetwork } from "../models/upscaler-network.ts";
import { builtInUpscaler } from "../pipelines/built-in-upscaler.ts";
import { UpscalePipeline } from "../pipelines/upscale-pipeline.ts";

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

/**
 * Copies an upscaler's file into the home folder, after it has been loaded once.
 *
 * @throws ModelInvalidError, WeightsInvalidError when it cannot be used.
 * @throws InvalidRequestError when its name is taken.
 * @throws EaselError `io_failed`.
 */
export async function installUpscaler(path: string, home: string): Promise<{ name: string; file: string }> {
  const name = upscalerName(path);
  if (name === builtInUpscaler || name === interpolation) {
    throw new InvalidRequestError("model", `${name} is the name of an upscaler of Easel's own; rename the file.`);
  }
  await (await UpscalePipeline.load({ file: path })).dispose();
  const folder = upscalersFolder(home);
  const file = join(folder, basename(path));
  const unfinished = join(folder, `.easel-${randomUUID()}.tmp`);
  try {
    mkdirSync(folder, { recursive: true });
    copyFileSync(path, unfinished);
    renameSync(unfinished, file);
  } catch (cause) {
    rmSync(unfinished, { force: true });
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new EaselError("io_failed", `${name} could not be copied to ${folder}: ${reason}.`, { cause });
  }
  return { name, file };
}
