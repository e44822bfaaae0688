/** Room on a disk, asked for before it is needed. */
import { statfs } from "node:fs/promises";
import { dirname } from "node:path";
import { EaselError } from "../../errors.ts";
import { formatBytes } from "./byte-size.ts";
import { isMissing } from "./file-fault.ts";

/** Free space that large files leave, in bytes. */
const spareBytes = 64 * 1024 * 1024;

export interface DiskSpace {
  /** What this user may still fill. Bytes. */
  freeBytes: number;
  totalBytes: number;
}

/** The disk on which `folder` is, or will be when it is made. */
export async function readDiskSpace(folder: string): Promise<DiskSpace> {
  try {
    const { bavail, blocks, bsize } = await statfs(folder);
    return { freeBytes: bavail * bsize, totalBytes: blocks * bsize };
  } catch (error) {
    if (!isMissing(error) || dirname(folder) === folder) throw error;
    return await readDiskSpace(dirname(folder));
  }
}

/** Throws `io_failed` when `what`, which begins the sentence, does not fit into `folder`. */
export async function requireSpace(folder: string, bytes: number, what: string): Promise<void> {
  if (bytes === 0) return;
  const { freeBytes } = await readDiskSpace(folder);
  if (bytes + spareBytes <= freeBytes) return;
  throw new EaselError(
    "io_failed",
    `${what} needs ${formatBytes(bytes + spareBytes)} on the disk of ${folder}, where ${formatBytes(freeBytes)} are free; ` +
      `free some space, or set EASEL_HOME to a folder on a larger disk.`,
  );
}
