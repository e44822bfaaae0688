/**
 * The cache that other Hugging Face programs fill: `models--OWNER--NAME/` with `refs/REVISION` (a commit) and
 * `snapshots/COMMIT/…`, links to blobs (https://huggingface.co/docs/huggingface_hub/guides/manage-cache). Only read here.
 */
import { readFile } from "node:fs/promises";
import { join } from "node:path";
import { checkModelFolder } from "../model-folder.ts";
import type { HubFile } from "./hub-client.ts";
import { isPresent } from "./partial-file.ts";

export interface CachedSnapshot {
  commit: string;
  folder: string;
}

/** The snapshot of a revision (a branch, tag or commit) when it is whole, found without asking the Hub. */
export async function findCachedSnapshot(
  cache: string,
  repository: string,
  revision = "main",
): Promise<CachedSnapshot | undefined> {
  const repositoryFolder = folderOf(cache, repository);
  const isCommit = /^[0-9a-f]{40}$/.test(revision);
  if (!isCommit && !/^(?!.*\.\.)[\w./-]+$/.test(revision)) return undefined;
  const reference = isCommit
    ? revision
    : await readFile(join(repositoryFolder, "refs", revision), "utf8").catch(() => "");
  const commit = reference.trim();
  if (!/^[0-9a-f]{40}$/.test(commit)) return undefined;
  const folder = join(repositoryFolder, "snapshots", commit);
  const whole = await checkModelFolder(folder).then(
    () => true,
    () => false,
  );
  return whole ? { commit, folder } : undefined;
}

/** The snapshot of `commit` when it has all of `files` in their listed sizes. */
export async function findCachedFiles(
  cache: string,
  { repository, commit, files }: { repository: string; commit: string; files: readonly HubFile[] },
): Promise<CachedSnapshot | undefined> {
  const folder = join(folderOf(cache, repository), "snapshots", commit);
  const present = await Promise.all(files.map(({ path, sizeBytes }) => isPresent(join(folder, path), sizeBytes)));
  return present.every(Boolean) ? { commit, folder } : undefined;
}

function folderOf(cache: string, repository: string): string {
  return join(cache, `models--${repository.replaceAll("/", "--")}`);
}
