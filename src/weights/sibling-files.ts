/**
 * Weight files near another: in its own folder, and in the folders that ComfyUI and its like keep beside the one it is in
 * (`models/unet` or `models/diffusion_models` beside `models/vae`, `models/clip`, `models/text_encoders`).
 */
import { readdirSync } from "node:fs";
import { dirname, join } from "node:path";

/** Folders of autoencoders and text encoders, in lower case. */
const siblingFolders: ReadonlySet<string> = new Set(["vae", "clip", "text_encoders", "text_encoder"]);
/** How far above the file such folders are looked for, and how far below them files. */
const maxLevelsUp = 3;
const maxLevelsDown = 2;
/** More files than anybody keeps; whoever points at a file server's root should not wait for all of it. */
const maxFiles = 500;

/** Whether a file is named as weights are; `.sft` is safetensors too. */
export function isWeightFile(name: string): boolean {
  return /\.(?:safetensors|sft|gguf)$/i.test(name) && !/-\d{5}-of-\d{5}\.safetensors$/.test(name);
}

/** The weight files near `file`, the nearest first, without itself. Folders that cannot be read count as empty. */
export function weightFilesNear(file: string): string[] {
  const found = new Set<string>();
  collect(dirname(file), 0, found);
  let folder = dirname(file);
  for (let level = 0; level <= maxLevelsUp; level++, folder = dirname(folder)) {
    for (const { name, isFolder } of list(folder)) {
      if (isFolder && siblingFolders.has(name.toLowerCase())) collect(join(folder, name), maxLevelsDown, found);
    }
  }
  found.delete(file);
  return [...found];
}

function collect(folder: string, levels: number, found: Set<string>): void {
  for (const { name, isFolder } of list(folder)) {
    if (found.size >= maxFiles) return;
    if (!isFolder && isWeightFile(name)) found.add(join(folder, name));
    else if (isFolder && levels > 0) collect(join(folder, name), levels - 1, found);
  }
}

function list(folder: string): { name: string; isFolder: boolean }[] {
  try {
    // A link counts as what it is named like: opening it will tell.
    return readdirSync(folder, { withFileTypes: true })
      .map((entry) => ({ name: entry.name, isFolder: entry.isDirectory() || isLinkToFolder(entry) }))
      .sort((a, b) => (a.name < b.name ? -1 : 1));
  } catch {
    return [];
  }
}

function isLinkToFolder(entry: { name: string; isSymbolicLink(): boolean }): boolean {
  return entry.isSymbolicLink() && !isWeightFile(entry.name);
}
