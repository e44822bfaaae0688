/**
 * One process at a time works on a folder.
 *
 * The lock is the operating system's own, taken through SQLite on a small file: it ends with its process however that
 * ends, so there is no stale lock to recognise by process ids, which repeat and mean nothing across containers.
 */
import { mkdir, rm, stat } from "node:fs/promises";
import { dirname } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import SQLite from "better-sqlite3";
import { fileFault } from "./file-fault.ts";

const pollMs = 250;

export interface LockOptions {
  signal: AbortSignal;
  /** Called once when another process has the lock. */
  onWaiting: () => void;
}

/** Waits for the lock on `path`, and holds it until disposed. Throws `io_failed`. */
export async function lockFolder(path: string, { signal, onWaiting }: LockOptions): Promise<AsyncDisposable> {
  for (let waiting = false; ; waiting = true) {
    const release = await tryLock(path);
    if (release) return release;
    if (!waiting) onWaiting();
    await sleep(pollMs, undefined, { signal }).catch(() => signal.throwIfAborted());
  }
}

/** The lock on `path`, or undefined when another process has it. Throws `io_failed`. */
export async function tryLock(path: string): Promise<AsyncDisposable | undefined> {
  let database: SQLite.Database | undefined;
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 });
    database = new SQLite(path, { timeout: 0 });
    const opened = await inodeOf(path);
    database.exec("BEGIN EXCLUSIVE");
    // Its last owner removes the file: then what has been locked is a file that nobody else will find.
    if (opened === undefined || (await inodeOf(path)) !== opened) {
      database.close();
      return await tryLock(path);
    }
    const held = database;
    return {
      async [Symbol.asyncDispose]() {
        await rm(path, { force: true }).catch(() => {}); // an open file stays on Windows, which does no harm
        held.close();
      },
    };
  } catch (error) {
    database?.close();
    if (error instanceof SQLite.SqliteError && error.code.startsWith("SQLITE_BUSY")) return undefined;
    throw fileFault(path, error);
  }
}

async function inodeOf(path: string): Promise<bigint | undefined> {
  const file = await stat(path, { bigint: true }).catch(() => undefined);
  return file?.ino;
}
