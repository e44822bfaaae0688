/** `easel pull` of a small file: an upscaler or a LoRA is tried and copied into the home folder, where requests find it by name. */
import { randomUUID } from "node:crypto";
import { copyFileSync, mkdirSync, renameSync, rmSync, statSync } from "node:fs";
import { basename, join } from "node:path";
import { loraName, lorasFolder } from "../engine/lora-catalog.ts";
import { interpolation, upscalerName, upscalersFolder } from "../engine/upscaler-catalog.ts";
import { InvalidRequestError } from "../errors.ts";
import { builtInUpscaler } from "../pipelines/built-in-upscaler.ts";
import { UpscalePipeline } from "../pipelines/upscale-pipeline.ts";
import { fileFault } from "../weights/hub/file-fault.ts";
import { openLora } from "../weights/lora.ts";
import { isFile, isUpscalerFile } from "./upscaler-files.ts";

export type SmallFileKind = "upscaler" | "LoRA";

export interface InstalledFile {
  name: string;
  /** Where it is now. */
  file: string;
  sizeBytes: number;
}

/** What kind of small file a path leads to; undefined for anything else, damaged ones included. */
export function smallFileKind(path: string): SmallFileKind | undefined {
  if (isUpscalerFile(path)) return "upscaler";
  if (!isFile(path) || !path.endsWith(".safetensors")) return undefined;
  try {
    openLora(path);
    return "LoRA";
  } catch {
    return undefined;
  }
}

/**
 * Copies the file, in the place of an earlier one of that name.
 *
 * @throws ModelInvalidError, WeightsInvalidError when it cannot be used.
 * @throws InvalidRequestError when its name is taken.
 * @throws EaselError `io_failed`.
 */
export async function installSmallFile(path: string, kind: SmallFileKind, home: string): Promise<InstalledFile> {
  if (kind === "LoRA") return copyInto(lorasFolder(home), path, loraName(path));
  const name = upscalerName(path);
  if (name === builtInUpscaler || name === interpolation) {
    throw new InvalidRequestError("model", `${name} is the name of an upscaler of Easel's own; rename the file.`);
  }
  await (await UpscalePipeline.load({ file: path })).dispose();
  return copyInto(upscalersFolder(home), path, name);
}

function copyInto(folder: string, path: string, name: string): InstalledFile {
  const file = join(folder, basename(path));
  const unfinished = join(folder, `.easel-${randomUUID()}.tmp`);
  try {
    mkdirSync(folder, { recursive: true });
    copyFileSync(path, unfinished);
    renameSync(unfinished, file);
  } catch (cause) {
    rmSync(unfinished, { force: true });
    throw fileFault(file, cause);
  }
  return { name, file, sizeBytes: statSync(file).size };
}
