/**
 * SQLite's checkpoints, on a thread of their own. What is written goes to a log first; a checkpoint brings the log into the
 * database's file and waits for the disk, a tenth of a second or more, in which a server should go on answering.
 */
import { extname } from "node:path";
import { Worker } from "node:worker_threads";
import { sql } from "kysely";
import { type Database, isPostgres } from "./database.ts";

export interface CheckpointThreadData {
  /** The database's file. */
  path: string;
  intervalMs: number;
}

const intervalMs = 2000;
/** The log's length at which the writer makes a checkpoint itself, should the thread be gone: 80 MB. */
const logPages = 20_000;

/**
 * Takes the checkpoints of an open database to a thread, until it is disposed of; PostgreSQL has its own. `onFault` is told
 * when the thread fails; the writer then makes them itself.
 */
export async function checkpointApart(
  database: Database,
  location: string,
  onFault: (error: unknown) => void,
): Promise<AsyncDisposable> {
  if (isPostgres(location)) return { async [Symbol.asyncDispose]() {} };
  await sql`pragma wal_autocheckpoint = ${sql.lit(logPages)}`.execute(database);
  // The same extension as this file's: .ts from the repository, .js from the published package.
  const entry = new URL(`checkpoint-thread${extname(import.meta.url)}`, import.meta.url);
  const workerData: CheckpointThreadData = { path: location, intervalMs };
  const worker = new Worker(entry, { workerData });
  worker.unref();
  const ended = new Promise((resolve) => worker.once("exit", resolve));
  worker.on("error", onFault);
  return {
    async [Symbol.asyncDispose]() {
      worker.ref();
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
      worker.postMessage("end");
      await ended;
    },
  };
}
