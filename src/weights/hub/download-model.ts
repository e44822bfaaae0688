/** A model's way from the Hub to its folder, in numbered steps. */
import { link, mkdir, readFile, rename, rm } from "node:fs/promises";
import { basename, dirname, join } from "node:path";
import { checkModelIndex } from "../model-folder.ts";
import { requireSpace } from "./disk-space.ts";
import { downloadFile } from "./download-file.ts";
import { fileFault, isMissing } from "./file-fault.ts";
import { lockFolder } from "./folder-lock.ts";
import { type CachedSnapshot, findCachedFiles } from "./hub-cache.ts";
import type { HubClient, HubFile } from "./hub-client.ts";
import { completion, isComplete, type Manifest, readManifest, writeManifest } from "./manifest.ts";
import { modelIndex, neededFiles } from "./needed-files.ts";
import { isPresent, partialSuffix, presentBytes } from "./partial-file.ts";

export interface DownloadModelOptions {
  client: HubClient;
  /** `owner/name`. */
  repository: string;
  /** A branch, tag or commit. */
  revision: string;
  /** Where the model goes; its last component names the model. */
  folder: string;
  /** Root of the Hugging Face cache to look into first. */
  cache: string;
  onProgress: (event: DownloadEvent) => void;
  /** Files fetched at the same time. Default 4. */
  parallel?: number | undefined;
}

export type DownloadEvent =
  /** The files of the model and how much of each is here already. */
  | { type: "plan"; files: { path: string; sizeBytes: number; receivedBytes: number }[] }
  /** How much of a file is here now. */
  | { type: "bytes"; path: string; receivedBytes: number };

export interface DownloadResult {
  outcome: "downloaded" | "already here" | "in the cache";
  repository: string;
  commit: string;
  license: string | undefined;
  /** Where the files are: `options.folder`, or a snapshot in the cache. */
  folder: string;
  sizeBytes: number;
}

/**
 * Brings the commit that `revision` means now. What an interrupted run has left in `.pulling-NAME` is taken up; the folder
 * appears under its name only when every file is there and proven. Two processes take turns, and the second finds the
 * model done. Throws `model_not_found`, `model_invalid`, `access_denied`, `download_failed`, `io_failed`, and the
 * client signal's reason.
 */
export async function downloadModel(options: DownloadModelOptions): Promise<DownloadResult> {
  const { client, repository, revision, folder, cache } = options;
  const pulling = pullingFolder(folder);

  // 1. Pin the commit, so that all files belong together however long this takes.
  const { commit, license } = await client.revision(repository, revision);
  const files = neededFiles(repository, await client.files(repository, commit));
  const sizeBytes = files.reduce((total, file) => total + file.sizeBytes, 0);
  const result = { repository, commit, license, sizeBytes };

  // 2. Nothing to do when the files are already on this machine.
  if (await isInstalled(folder, commit)) return { ...result, outcome: "already here", folder };
  const cached: CachedSnapshot | undefined = await findCachedFiles(cache, { repository, commit, files });
  if (cached) return { ...result, outcome: "in the cache", folder: cached.folder };

  // 3. One process at a time; whoever waited may find the work done.
  const onWaiting = () => client.onNotice(`Another easel is pulling ${basename(folder)}; waiting for it.`);
  const lock = await lockFolder(lockFile(folder), { signal: client.signal, onWaiting });
  try {
    if (await isInstalled(folder, commit)) return { ...result, outcome: "already here", folder };
    const manifest: Manifest = { version: 1, repository, commit, ...(license === undefined ? {} : { license }), files };
    await fillFolder(pulling, manifest, options);
    await replaceFolder(folder, pulling);
    return { ...result, outcome: "downloaded", folder };
  } finally {
    await dropIfEmpty(pulling);
    await lock[Symbol.asyncDispose]();
  }
}

async function fillFolder(pulling: string, manifest: Manifest, options: DownloadModelOptions): Promise<void> {
  const { client, repository, folder, onProgress } = options;
  const { commit, files } = manifest;

  // 4. Keep what is still right of an interrupted run and of an older version.
  await mkdir(pulling, { recursive: true }).catch((error: unknown) => {
    throw fileFault(pulling, error);
  });
  await dropOutdated(pulling, manifest);
  await writeManifest(pulling, manifest);
  await linkUnchanged(folder, pulling, manifest);

  // 5. The model's description comes first: it is small, tells what the rest is, and is refused if access is.
  const report = (path: string) => (receivedBytes: number) => onProgress({ type: "bytes", path, receivedBytes });
  const fetchFile = async (file: HubFile, signal: AbortSignal) => {
    const path = join(pulling, file.path);
    await downloadFile(client, { repository, commit, file, path, signal, onBytes: report(file.path) });
  };
  const [index, ...rest] = [...files].sort((a, b) => rank(b) - rank(a));
  if (index) await fetchFile(index, client.signal);
  checkModelIndex(repository, await readFile(join(pulling, modelIndex), "utf8"));

  // 6. Room for the rest, before the rest.
  const plan = await Promise.all(
    files.map(async ({ path, sizeBytes }) => {
      return { path, sizeBytes, receivedBytes: await presentBytes(join(pulling, path), sizeBytes) };
    }),
  );
  const missingBytes = plan.reduce((total, { sizeBytes, receivedBytes }) => total + sizeBytes - receivedBytes, 0);
  await requireSpace(dirname(folder), missingBytes, basename(folder));
  onProgress({ type: "plan", files: plan });

  // 7. Several files at once, the largest first.
  await inParallel(rest, options.parallel ?? 4, client.signal, fetchFile);
}

/** Where the files of an unfinished model lie. */
export function pullingFolder(folder: string): string {
  return join(dirname(folder), pullingPrefix + basename(folder));
}

export const pullingPrefix = ".pulling-";

/** The lock that pulling or removing a model takes. */
export function lockFile(folder: string): string {
  return `${pullingFolder(folder)}.lock`;
}

/** Removes a folder in one step as others see it, then its files. Throws `io_failed`. */
export async function removeFolder(folder: string): Promise<void> {
  await replaceFolder(folder, undefined);
}

/** Puts `replacement`, or nothing, in the place of `folder`; at no time is there half a model under its name. Throws `io_failed`. */
export async function replaceFolder(folder: string, replacement: string | undefined): Promise<void> {
  const doomed = join(dirname(folder), `.removing-${basename(folder)}`);
  try {
    await rm(doomed, { recursive: true, force: true });
    await rename(folder, doomed).catch((error: unknown) => {
      if (!isMissing(error)) throw error;
    });
    if (replacement !== undefined) await rename(replacement, folder);
    await rm(doomed, { recursive: true, force: true });
  } catch (error) {
    throw fileFault(folder, error);
  }
}

/** The model's description before all, then by size. */
function rank({ path, sizeBytes }: HubFile): number {
  return path === modelIndex ? Infinity : sizeBytes;
}

async function isInstalled(folder: string, commit: string): Promise<boolean> {
  const manifest = await readManifest(folder);
  return manifest !== undefined && manifest.commit === commit && (await isComplete(folder, manifest));
}

/** Drops from an interrupted run what belongs to other contents. */
async function dropOutdated(pulling: string, manifest: Manifest): Promise<void> {
  const earlier = await readManifest(pulling);
  const wanted = new Map(manifest.files.map(({ path, hash }) => [path, hash.hex]));
  for (const { path, hash } of earlier?.files ?? []) {
    if (wanted.get(path) === hash.hex) continue;
    await rm(join(pulling, path), { force: true });
    await rm(join(pulling, path + partialSuffix), { force: true });
  }
}

/** After a refusal at the very beginning there is nothing worth keeping. */
async function dropIfEmpty(pulling: string): Promise<void> {
  const manifest = await readManifest(pulling);
  const weights = manifest?.files.filter(({ path }) => path !== modelIndex) ?? [];
  const { receivedBytes } = await completion(pulling, { files: weights });
  if (receivedBytes === 0) await rm(pulling, { recursive: true, force: true });
}

/** An update shares the unchanged files with the installed version, where the file system can. */
async function linkUnchanged(folder: string, pulling: string, manifest: Manifest): Promise<void> {
  const installed = await readManifest(folder);
  const here = new Map(installed?.files.map(({ path, hash }) => [path, hash.hex]));
  for (const { path, sizeBytes, hash } of manifest.files) {
    if (here.get(path) !== hash.hex || !(await isPresent(join(folder, path), sizeBytes))) continue;
    await mkdir(dirname(join(pulling, path)), { recursive: true });
    await link(join(folder, path), join(pulling, path)).catch(() => {}); // then it is fetched
  }
}

/** The first failure stops the others; all have ended when this settles. */
async function inParallel<T>(
  items: readonly T[],
  limit: number,
  signal: AbortSignal,
  work: (item: T, signal: AbortSignal) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const failing = new AbortController();
  const stop = AbortSignal.any([signal, failing.signal]);
  const worker = async () => {
    try {
      for (const item of queue) {
        stop.throwIfAborted();
        await work(item, stop);
      }
    } catch (error) {
      failing.abort(error);
    }
  };
  await Promise.all(Array.from({ length: limit }, worker));
  stop.throwIfAborted();
}
