/** Where pictures are saved: names planned before anything is drawn, files that appear whole or not at all. */
import { randomUUID } from "node:crypto";
import { existsSync, mkdirSync, renameSync, rmSync, statSync, writeFileSync } from "node:fs";
import { basename, dirname, extname, join } from "node:path";
import { EaselError } from "../errors.ts";
import type { ImageFormat } from "../images/metadata.ts";

/** The path of picture `index`, which has `seed`. */
export type PathOf = (index: number, seed: number) => string;

export interface OutputPlan {
  pathOf: PathOf;
  format: ImageFormat;
}

/** How pictures are called for which `--out` names no file. */
export interface UnnamedFiles {
  stem: (seed: number) => string;
  format: ImageFormat;
}

const drawings: UnnamedFiles = { stem: (seed) => `easel-${seed}`, format: "png" };

export interface OutputFile {
  path: string;
  data: Uint8Array;
}

/** By extension, in lower case. */
export const formatsByExtension: Readonly<Record<string, ImageFormat>> = {
  ".png": "png",
  ".jpg": "jpeg",
  ".jpeg": "jpeg",
  ".webp": "webp",
};

/**
 * What `--out` means: an existing folder, or a name that ends with a slash or has no extension, is a folder, for files named
 * as `unnamed` says; anything else is a file of the format that its extension names, numbered when there are several. Throws
 * `invalid_request` for what can never be written.
 */
export function planOutput(
  out: string | undefined,
  count: number,
  { stem, format: unnamed }: UnnamedFiles = drawings,
): OutputPlan {
  if (out === undefined) return { format: unnamed, pathOf: (_, seed) => freePath(stem(seed), unnamed) };
  const kind = statSync(out, { throwIfNoEntry: false });
  if (kind?.isDirectory() || (!kind && (/[/\\]$/.test(out) || extname(out) === ""))) {
    return { format: unnamed, pathOf: (_, seed) => freePath(join(out, stem(seed)), unnamed) };
  }

  const extension = extname(out);
  const format = formatsByExtension[extension.toLowerCase()];
  if (format === undefined) {
    throw usageError(`--out must be a folder or a name that ends in .png, .jpg or .webp, not ${out}.`);
  }
  if (kind && !kind.isFile()) throw usageError(`--out ${out} is neither a file nor a folder; choose another name.`);
  const folder = dirname(out);
  if (!statSync(folder, { throwIfNoEntry: false })?.isDirectory()) {
    throw usageError(`--out ${out}: there is no folder ${folder}; create it first.`);
  }
  if (count === 1) return { format, pathOf: () => out };
  return { format, pathOf: (index) => join(folder, `${basename(out, extension)}-${index + 1}${extension}`) };
}

/**
 * Writes all files or none: each under a temporary name beside its place, renamed when every one is complete.
 * Throws `io_failed` in one sentence.
 */
export function writeFiles(files: readonly OutputFile[]): void {
  const pending = files.map((file) => ({ ...file, temporary: join(dirname(file.path), `.easel-${randomUUID()}.tmp`) }));
  let path = "";
  try {
    for (const file of pending) {
      path = file.path;
      mkdirSync(dirname(path), { recursive: true });
      writeFileSync(file.temporary, file.data, { flag: "wx", flush: true });
    }
    for (const file of pending) {
      path = file.path;
      renameSync(file.temporary, path);
    }
  } catch (cause) {
    for (const { temporary } of pending) rmSync(temporary, { force: true });
    throw new EaselError("io_failed", `${path} could not be written: ${reason(cause)}.`, { cause });
  }
}

/** The first of `stem.png`, `stem-2.png`, … that does not exist yet. */
function freePath(stem: string, format: ImageFormat): string {
  const extension = format === "jpeg" ? "jpg" : format;
  let path = `${stem}.${extension}`;
  for (let number = 2; existsSync(path); number++) path = `${stem}-${number}.${extension}`;
  return path;
}

function reason(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "ENOSPC":
    case "EDQUOT":
      return "the disk is full; free some space";
    case "EACCES":
    case "EPERM":
    case "EROFS":
      return "permission is missing; choose another place";
    case "EISDIR":
      return "it is a folder; choose another name";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}

function usageError(message: string): EaselError {
  return new EaselError("invalid_request", message, { param: "--out" });
}
