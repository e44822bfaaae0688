/** What becomes of the jobs that a server left behind: kept ones are drawn, the others are lost with who waited for them. */
import { type SerializedError, serializeError } from "../errors.ts";
import type { JobRecord, JobStore } from "../store/jobs.ts";
import { invalidity, type KeyStore } from "../store/keys.ts";
import type { ActiveJobOptions } from "./active-job.ts";
import type { Engine } from "./engine.ts";
import type { JobObserver } from "./job-observer.ts";
import type { KeptInputs } from "./kept-inputs.ts";
import { type KeptRequest, restoreRequest } from "./kept-request.ts";

export interface RecoveryOptions {
  engine: Engine;
  store: JobStore;
  keys: KeyStore;
  inputs: KeptInputs;
  observers: readonly JobObserver[];
  /** Puts a job into the queue. */
  launch: (job: ActiveJobOptions) => void;
}

/** Ids of jobs. */
export interface Recovery {
  resumed: string[];
  /** Of these nobody can have the pictures any more; they were not charged. */
  lost: string[];
}

/** How often a kept job is begun before it counts as what ends the server. */
const maxAttempts = 2;

/** Takes up what can be taken up and settles the rest; right after the start of the server, before it takes work. */
export async function recoverJobs(options: RecoveryOptions): Promise<Recovery> {
  const { store, inputs, observers } = options;
  const recovery: Recovery = { resumed: [], lost: [] };
  for (const record of await store.unfinished()) {
    const fault = await resume(record, options).catch((error: unknown) => serializeError(error));
    if (fault === undefined) {
      recovery.resumed.push(record.id);
      continue;
    }
    const { id, model, kept } = record;
    await store.settle(id, { state: "failed", pictures: 0, pixelSteps: 0, error: fault });
    await inputs.remove(id);
    for (const observer of observers) {
      observer.ended?.({ id, model, kept, outcome: "failed", pictures: 0, seconds: 0, crashed: false });
    }
    recovery.lost.push(id);
  }
  await inputs.removeOthers();
  return recovery;
}

/** Takes up a job of an earlier process; returns the reason when that cannot be. */
async function resume(
  record: JobRecord,
  { engine, keys, inputs, launch }: RecoveryOptions,
): Promise<SerializedError | undefined> {
  const kept = record.request as KeptRequest | undefined;
  if (!record.kept || kept === undefined) {
    return { code: "lost", message: "The server stopped while the generation was in hand; it was not charged." };
  }
  if (record.attempts >= maxAttempts) {
    return { code: "lost", message: `The server stopped ${record.attempts} times while it drew this picture.` };
  }
  const client = await keys.findById(record.keyId);
  if (client === undefined || invalidity(client) !== undefined) {
    return { code: "unauthorized", message: "The API key of this job is no longer valid." };
  }
  const plan = await engine.plan(await restoreRequest(record.id, kept, inputs));
  launch({ id: record.id, client, plan, kept: true, graceMs: 0, acceptedBefore: true });
  return undefined;
}
