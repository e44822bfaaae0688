/**
 * The folder of converted weights. Each conversion has a folder of its own, which gets its name when it is whole and on the disk:
 * until then it is `NAME.tmp`, and whoever has the lock on NAME may remove what an earlier process left there.
 */
import { existsSync } from "node:fs";
import { mkdir, readdir, readFile, rename, rm, writeFile } from "node:fs/promises";
import { dirname, join, sep } from "node:path";
import { StoredWeights } from "./converted-weights.ts";
import { requireSpace } from "./hub/disk-space.ts";
import { fileFault } from "./hub/file-fault.ts";
import { lockFolder, tryLock } from "./hub/folder-lock.ts";
import { folderBytes } from "./model-folder.ts";

export interface CacheEntry {
  /** Its final place: CACHE/NAME. */
  folder: string;
  /** Where the weights come from: absolute paths. */
  sources: readonly string[];
}

export interface BuildOptions {
  signal: AbortSignal;
  /** What the disk must have room for now: this conversion, and those that follow. */
  neededBytes: number;
  /** Another process is at this conversion. */
  onWaiting: () => void;
}

const unfinishedSuffix = ".tmp";
const lockSuffix = ".lock";
const sourceFile = "source.json";

/**
 * Has `write` fill the entry's folder, unless it is there: a process that had to wait for another finds the work done.
 *
 * @throws EaselError `io_failed` when there is no room, before anything is written, or the disk fills up on the way.
 * @throws what `write` throws, and the signal's reason. Nothing is left then.
 */
export async function buildEntry(
  { folder, sources }: CacheEntry,
  { signal, neededBytes, onWaiting }: BuildOptions,
  write: (folder: string) => Promise<void>,
): Promise<void> {
  const cacheDir = dirname(folder);
  const unfinished = folder + unfinishedSuffix;
  const lock = await lockFolder(folder + lockSuffix, { signal, onWaiting });
  try {
    if (StoredWeights.open(folder) !== undefined) return;
    await rm(folder, { recursive: true, force: true });
    await rm(unfinished, { recursive: true, force: true });
    await requireSpace(cacheDir, neededBytes, "Converting the model");
    await mkdir(unfinished, { recursive: true });
    await writeFile(join(unfinished, sourceFile), JSON.stringify(sources));
    await write(unfinished);
    await rename(unfinished, folder);
  } catch (error) {
    await rm(unfinished, { recursive: true, force: true }).catch(() => {}); // the first fault is the one to tell
    signal.throwIfAborted();
    throw error instanceof Error && "errno" in error ? fileFault(cacheDir, error) : error;
  } finally {
    await lock[Symbol.asyncDispose]();
  }
}

export interface SourceFiles {
  /** Files, or folders with files. */
  of: readonly string[];
  /** What was made of these alone is kept. */
  except: readonly string[];
}

/** Removes what was made of such files; returns the bytes that this freed. Throws `io_failed`. */
export async function removeEntries(cacheDir: string, { of, except }: SourceFiles): Promise<number> {
  let freedBytes = 0;
  for (const name of await readdir(cacheDir).catch(() => [])) {
    const folder = join(cacheDir, name);
    const sources = await readSources(folder);
    const areIn = (places: readonly string[]) =>
      sources.every((source) => places.some((place) => source === place || source.startsWith(place + sep)));
    if (sources.length === 0 || !areIn(of) || areIn(except)) continue;
    await using lock = await tryLock(withoutSuffix(folder) + lockSuffix);
    if (lock === undefined || !existsSync(folder)) continue; // it is being made now
    freedBytes += await folderBytes(folder);
    await rm(folder, { recursive: true, force: true }).catch((error: unknown) => {
      throw fileFault(folder, error);
    });
  }
  return freedBytes;
}

function withoutSuffix(folder: string): string {
  return folder.endsWith(unfinishedSuffix) ? folder.slice(0, -unfinishedSuffix.length) : folder;
}

/** None of an entry that says nothing of its sources, as those of earlier versions. */
async function readSources(folder: string): Promise<string[]> {
  try {
    const sources: unknown = JSON.parse(await readFile(join(folder, sourceFile), "utf8"));
    return Array.isArray(sources) ? sources.filter((source) => typeof source === "string") : [];
  } catch {
    return [];
  }
}
