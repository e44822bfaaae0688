/** The thread of `checkpointApart`: a checkpoint now and then, until it is told to end. */
import { parentPort, workerData } from "node:worker_threads";
import SQLite from "better-sqlite3";
import type { CheckpointThreadData } from "./checkpoints.ts";

const { path, intervalMs } = workerData as CheckpointThreadData;
const database = new SQLite(path);
// As far as nobody is in the way: it makes no writer wait.
const timer = setInterval(() => database.pragma("wal_checkpoint(PASSIVE)"), intervalMs);
parentPort!.once("message", () => {
  clearInterval(timer);
  database.close();
});
