/**
 * Every generation that was accepted, from its reservation to its settlement.
 *
 * What a key has used stands in `usage`, with what is reserved already counted in. Accepting and settling change the job and
 * the usage in one transaction, so no two requests can spend the same budget and no end is counted twice.
 */
import type { Selectable, Transaction, Updateable } from "kysely";
import { EaselError, type SerializedError } from "../errors.ts";
import type { Database, Schema } from "./database.ts";
import type { ApiKey } from "./keys.ts";
import { budgetState, dayOf } from "./usage.ts";

export const jobStates = ["queued", "running", "succeeded", "failed", "cancelled"] as const;
export type JobState = (typeof jobStates)[number];
const unfinishedStates: readonly JobState[] = ["queued", "running"];

export interface NewJob {
  id: string;
  model: string;
  pictures: number;
  /** Pixels × steps to reserve. */
  pixelSteps: number;
  /** What makes the job outlive its client and the server; undefined for work that somebody waits for. */
  kept?: { request: unknown; webhook?: { url: string; secret: string } | undefined } | undefined;
  idempotencyKey?: string | undefined;
  fingerprint?: string | undefined;
}

export interface JobRecord {
  id: string;
  keyId: string;
  state: JobState;
  kept: boolean;
  model: string;
  pictures: number;
  /** Pixels × steps that were reserved. */
  reserved: number;
  attempts: number;
  createdAt: Date;
  startedAt: Date | undefined;
  finishedAt: Date | undefined;
  fingerprint: string | undefined;
  request: unknown;
  result: unknown;
  error: SerializedError | undefined;
}

/** How a job ended, and what it really cost. */
export interface JobEnd {
  state: "succeeded" | "failed" | "cancelled";
  pictures: number;
  pixelSteps: number;
  result?: unknown;
  error?: SerializedError | undefined;
}

export interface DueWebhook {
  job: JobRecord;
  url: string;
  secret: string;
  /** Deliveries that failed so far. */
  attempts: number;
  dueAt: Date;
}

export class JobStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /**
   * Stores the job and reserves its cost. Throws `rate_limit_exceeded` when the key has as many pictures in hand as it may,
   * and `insufficient_quota` when its budget does not suffice.
   */
  async accept(job: NewJob, key: ApiKey): Promise<void> {
    const now = new Date();
    await this.#database.transaction().execute(async (transaction) => {
      // Written first, the key's row is the lock: others who accept for this key wait here until this transaction ends.
      await transaction.updateTable("keys").set({ last_used_at: now.toISOString() }).where("id", "=", key.id).execute();
      await checkConcurrency(transaction, key, job.pictures);
      await checkBudget(transaction, key, job.pixelSteps, now);
      await transaction
        .insertInto("jobs")
        .values({
          id: job.id,
          key_id: key.id,
          state: "queued",
          kept: job.kept ? 1 : 0,
          model: job.model,
          pictures: job.pictures,
          reserved: job.pixelSteps,
          attempts: 0,
          created_at: now.toISOString(),
          idempotency_key: job.idempotencyKey ?? null,
          fingerprint: job.fingerprint ?? null,
          request: job.kept ? JSON.stringify(job.kept.request) : null,
          webhook_url: job.kept?.webhook?.url ?? null,
          webhook_secret: job.kept?.webhook?.secret ?? null,
          webhook_attempts: 0,
        })
        .execute();
      await addUsage(transaction, { key_id: key.id, day: dayOf(now.toISOString()), model: job.model }, [
        1,
        job.pictures,
        job.pixelSteps,
      ]);
    });
  }

  /** Takes back an acceptance, as if the request had never come. */
  async withdraw(id: string): Promise<void> {
    await this.#database.transaction().execute(async (transaction) => {
      const job = await transaction.deleteFrom("jobs").where("id", "=", id).returningAll().executeTakeFirst();
      if (job) await addUsage(transaction, usageOf(job), [-1, -job.pictures, -job.reserved]);
    });
  }

  /** The job begins to be drawn. */
  async start(id: string): Promise<void> {
    await this.#database
      .updateTable("jobs")
      .set((row) => ({ state: "running", started_at: new Date().toISOString(), attempts: row("attempts", "+", 1) }))
      .where("id", "=", id)
      .where("state", "in", unfinishedStates)
      .execute();
  }

  /** Puts a kept job back among the waiting, for the next start of the server. An orderly stop is no failed attempt. */
  async suspend(id: string): Promise<void> {
    await this.#database
      .updateTable("jobs")
      .set({ state: "queued", started_at: null, attempts: 0 })
      .where("id", "=", id)
      .where("state", "in", unfinishedStates)
      .execute();
  }

  /** Ends the job and turns its reservation into its cost; false, and without effect, when it had ended already. */
  async settle(id: string, end: JobEnd): Promise<boolean> {
    const now = new Date().toISOString();
    return await this.#database.transaction().execute(async (transaction) => {
      const job = await transaction
        .updateTable("jobs")
        .set({
          state: end.state,
          finished_at: now,
          charged: end.pixelSteps,
          result: end.result === undefined ? null : JSON.stringify(end.result),
          error: end.error === undefined ? null : JSON.stringify(end.error),
        })
        .where("id", "=", id)
        .where("state", "in", unfinishedStates)
        .returningAll()
        .executeTakeFirst();
      if (!job) return false;
      await addUsage(transaction, usageOf(job), [0, end.pictures - job.pictures, end.pixelSteps - job.reserved]);
      if (job.webhook_url !== null) await update(transaction, id, { webhook_due_at: now });
      return true;
    });
  }

  /** The job, if it belongs to this key. */
  async find(id: string, keyId: string): Promise<JobRecord | undefined> {
    const row = await this.#database
      .selectFrom("jobs")
      .selectAll()
      .where("id", "=", id)
      .where("key_id", "=", keyId)
      .executeTakeFirst();
    return row && record(row);
  }

  /** The kept job that this key has sent with this idempotency key. */
  async findRepeated(keyId: string, idempotencyKey: string): Promise<JobRecord | undefined> {
    const row = await this.#database
      .selectFrom("jobs")
      .selectAll()
      .where("key_id", "=", keyId)
      .where("idempotency_key", "=", idempotencyKey)
      .where("kept", "=", 1)
      .executeTakeFirst();
    return row && record(row);
  }

  /** What neither ended nor can be going on, right after a start; the oldest first. */
  async unfinished(): Promise<JobRecord[]> {
    const rows = await this.#database
      .selectFrom("jobs")
      .selectAll()
      .where("state", "in", unfinishedStates)
      .orderBy("created_at")
      .execute();
    return rows.map(record);
  }

  /** Forgets jobs that ended before `before`, except those whose webhook is still to be delivered; returns their ids. */
  async forget(before: Date): Promise<string[]> {
    const rows = await this.#database
      .deleteFrom("jobs")
      .where("finished_at", "<", before.toISOString())
      .where("webhook_due_at", "is", null)
      .returning("id")
      .execute();
    return rows.map(({ id }) => id);
  }

  /** Webhooks to deliver, now or later, the earliest first. */
  async dueWebhooks(): Promise<DueWebhook[]> {
    const rows = await this.#database
      .selectFrom("jobs")
      .selectAll()
      .where("webhook_due_at", "is not", null)
      .orderBy("webhook_due_at")
      .execute();
    return rows.map((row) => ({
      job: record(row),
      url: row.webhook_url ?? "",
      secret: row.webhook_secret ?? "",
      attempts: row.webhook_attempts,
      dueAt: new Date(row.webhook_due_at ?? 0),
    }));
  }

  /** Notes a delivery's outcome: when to try again, or, with undefined, never. */
  async rescheduleWebhook(jobId: string, attempts: number, dueAt: Date | undefined): Promise<void> {
    const again = { webhook_attempts: attempts, webhook_due_at: dueAt?.toISOString() ?? null };
    await update(this.#database, jobId, dueAt === undefined ? { ...again, webhook_secret: null } : again);
  }

  /** Throws when the database does not answer. */
  async ping(): Promise<void> {
    await this.#database.selectFrom("jobs").select("id").limit(1).execute();
  }
}

type Usage = Pick<Selectable<Schema["usage"]>, "key_id" | "day" | "model">;

function usageOf(job: Selectable<Schema["jobs"]>): Usage {
  return { key_id: job.key_id, day: dayOf(job.created_at), model: job.model };
}

async function addUsage(
  transaction: Transaction<Schema>,
  row: Usage,
  [requests, pictures, pixelSteps]: [number, number, number],
): Promise<void> {
  await transaction
    .insertInto("usage")
    .values({ ...row, requests, pictures, pixel_steps: pixelSteps })
    .onConflict((conflict) =>
      conflict.columns(["key_id", "day", "model"]).doUpdateSet((old) => ({
        requests: old("usage.requests", "+", requests),
        pictures: old("usage.pictures", "+", pictures),
        pixel_steps: old("usage.pixel_steps", "+", pixelSteps),
      })),
    )
    .execute();
}

async function checkConcurrency(transaction: Transaction<Schema>, key: ApiKey, pictures: number): Promise<void> {
  const limit = key.concurrentPictures;
  if (limit === undefined) return;
  if (pictures > limit) {
    throw new EaselError("invalid_request", `n must be at most ${limit} for this key, not ${pictures}.`, {
      param: "n",
    });
  }
  const { inHand } = await transaction
    .selectFrom("jobs")
    .select(({ fn }) => fn.sum<number | null>("pictures").as("inHand"))
    .where("key_id", "=", key.id)
    .where("state", "in", unfinishedStates)
    .executeTakeFirstOrThrow();
  if ((inHand ?? 0) + pictures > limit) {
    throw new EaselError(
      "rate_limit_exceeded",
      `This key may have ${limit} pictures waiting or being drawn at once, and has ${inHand}; wait for one of them.`,
    );
  }
}

async function checkBudget(
  transaction: Transaction<Schema>,
  key: ApiKey,
  pixelSteps: number,
  now: Date,
): Promise<void> {
  const budget = await budgetState(transaction, key, now);
  if (!budget || budget.usedPixelSteps + pixelSteps <= budget.pixelSteps) return;
  throw new EaselError(
    "insufficient_quota",
    `This key may use ${megapixels(budget.pixelSteps)} megapixel-steps a ${budget.period}; ` +
      `${megapixels(budget.usedPixelSteps)} are taken and this request needs ${megapixels(pixelSteps)}. ` +
      `The next ${budget.period} begins at ${budget.resetsAt.toISOString()}.`,
  );
}

function megapixels(pixelSteps: number): string {
  return String(Math.round(pixelSteps / 1e4) / 100);
}

async function update(database: Database | Transaction<Schema>, id: string, values: Updateable<Schema["jobs"]>) {
  await database.updateTable("jobs").set(values).where("id", "=", id).execute();
}

function record(row: Selectable<Schema["jobs"]>): JobRecord {
  return {
    id: row.id,
    keyId: row.key_id,
    state: row.state as JobState,
    kept: row.kept === 1,
    model: row.model,
    pictures: row.pictures,
    reserved: row.reserved,
    attempts: row.attempts,
    createdAt: new Date(row.created_at),
    startedAt: date(row.started_at),
    finishedAt: date(row.finished_at),
    fingerprint: row.fingerprint ?? undefined,
    request: row.request === null ? undefined : JSON.parse(row.request),
    result: row.result === null ? undefined : JSON.parse(row.result),
    error: row.error === null ? undefined : (JSON.parse(row.error) as SerializedError),
  };
}

function date(text: string | null): Date | undefined {
  return text === null ? undefined : new Date(text);
}
