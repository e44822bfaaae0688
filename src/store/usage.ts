/** What was drawn, by key, day and model; and what is left of a key's budget. */
import type { Transaction } from "kysely";
import type { Database, Schema } from "./database.ts";
import type { ApiKey, Budget } from "./keys.ts";

export interface UsageRow {
  /** YYYY-MM-DD, UTC. */
  day: string;
  keyId: string;
  keyName: string;
  model: string;
  requests: number;
  pictures: number;
  megapixelSteps: number;
}

export interface UsageQuery {
  /** Only this key's; all keys' when undefined. */
  keyId?: string | undefined;
  /** First and last day, YYYY-MM-DD. */
  from?: string | undefined;
  to?: string | undefined;
}

/** Usage, work in progress included, by day, then key, then model. */
export async function usageReport(database: Database, { keyId, from, to }: UsageQuery = {}): Promise<UsageRow[]> {
  let query = database
    .selectFrom("usage")
    .leftJoin("keys", "keys.id", "usage.key_id")
    .select(["day", "key_id", "keys.name", "model", "requests", "pictures", "pixel_steps"])
    .orderBy("day")
    .orderBy("key_id")
    .orderBy("model");
  if (keyId !== undefined) query = query.where("key_id", "=", keyId);
  if (from !== undefined) query = query.where("day", ">=", from);
  if (to !== undefined) query = query.where("day", "<=", to);
  return (await query.execute()).map((row) => ({
    day: row.day,
    keyId: row.key_id,
    keyName: row.name ?? row.key_id,
    model: row.model,
    requests: row.requests,
    pictures: row.pictures,
    megapixelSteps: row.pixel_steps / 1e6,
  }));
}

/** The report as a CSV file with a header, RFC 4180. */
export function usageCsv(rows: readonly UsageRow[]): string {
  const lines = rows.map((row) => [
    row.day,
    row.keyId,
    row.keyName,
    row.model,
    row.requests,
    row.pictures,
    row.megapixelSteps,
  ]);
  return [["day", "key_id", "key_name", "model", "requests", "pictures", "megapixel_steps"], ...lines]
    .map((line) => `${line.map(csvCell).join(",")}\r\n`)
    .join("");
}

export interface BudgetState extends Budget {
  usedPixelSteps: number;
  /** When the next period begins. */
  resetsAt: Date;
}

/** The key's budget and what of it is taken, reservations included; undefined for a key without one. */
export async function budgetState(
  database: Database | Transaction<Schema>,
  key: ApiKey,
  now: Date = new Date(),
): Promise<BudgetState | undefined> {
  if (key.budget === undefined) return undefined;
  const { first, resetsAt } = currentPeriod(key.budget.period, now);
  const { used } = await database
    .selectFrom("usage")
    .select(({ fn }) => fn.sum<number | null>("pixel_steps").as("used"))
    .where("key_id", "=", key.id)
    .where("day", ">=", first)
    .executeTakeFirstOrThrow();
  return { ...key.budget, usedPixelSteps: used ?? 0, resetsAt };
}

/** The first day of the current day or month, and the instant when the next begins; in UTC. */
function currentPeriod(period: Budget["period"], now: Date): { first: string; resetsAt: Date } {
  const [year, month, day] = [now.getUTCFullYear(), now.getUTCMonth(), now.getUTCDate()];
  return period === "day"
    ? { first: dayOf(now.toISOString()), resetsAt: new Date(Date.UTC(year, month, day + 1)) }
    : { first: dayOf(new Date(Date.UTC(year, month, 1)).toISOString()), resetsAt: new Date(Date.UTC(year, month + 1)) };
}

/** The day of an ISO 8601 time. */
export function dayOf(time: string): string {
  return time.slice(0, 10);
}

function csvCell(value: string | number): string {
  // A name that begins like a formula would be one in a spreadsheet.
  const text = typeof value === "string" && /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}
