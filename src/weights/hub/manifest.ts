/**
 * `easel-pull.json`: where a model comes from and which files it has. It is written when a download begins and stays with
 * the installed model, so that the next run knows what is here and what is missing.
 */
import { readFile, rename, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { z } from "zod";
import { fileFault } from "./file-fault.ts";
import { isPresent, presentBytes } from "./partial-file.ts";

const manifestFile = "easel-pull.json";

const manifestSchema = z.object({
  version: z.literal(1),
  repository: z.string(),
  commit: z.string(),
  license: z.string().optional(),
  files: z.array(
    z.object({
      // Read back from disk: still only ever a path below the model's folder.
      path: z.string().regex(/^(?!.*(^|\/)\.\.?(\/|$))[^/\\][^\\]*$/),
      sizeBytes: z.number().int().min(0),
      hash: z.object({ algorithm: z.enum(["sha256", "git-sha1"]), hex: z.string() }),
    }),
  ),
});

export type Manifest = z.infer<typeof manifestSchema>;

/** The manifest of a folder, or undefined when it has none that can be read. */
export async function readManifest(folder: string): Promise<Manifest | undefined> {
  try {
    return manifestSchema.parse(JSON.parse(await readFile(join(folder, manifestFile), "utf8")));
  } catch {
    return undefined;
  }
}

/** Throws `io_failed`. */
export async function writeManifest(folder: string, manifest: Manifest): Promise<void> {
  const path = join(folder, manifestFile);
  try {
    await writeFile(`${path}.new`, `${JSON.stringify(manifest, undefined, 2)}\n`, { flush: true });
    await rename(`${path}.new`, path);
  } catch (error) {
    throw fileFault(path, error);
  }
}

/** Whether every file of the manifest is here. */
export async function isComplete(folder: string, { files }: Manifest): Promise<boolean> {
  const present = await Promise.all(files.map(({ path, sizeBytes }) => isPresent(join(folder, path), sizeBytes)));
  return present.every(Boolean);
}

export interface Completion {
  receivedBytes: number;
  totalBytes: number;
}

/** How much of the manifest's files is here, unfinished ones included. */
export async function completion(folder: string, { files }: Pick<Manifest, "files">): Promise<Completion> {
  const present = await Promise.all(files.map(({ path, sizeBytes }) => presentBytes(join(folder, path), sizeBytes)));
  return { receivedBytes: sum(present), totalBytes: sum(files.map(({ sizeBytes }) => sizeBytes)) };
}

function sum(values: readonly number[]): number {
  return values.reduce((total, value) => total + value, 0);
}
