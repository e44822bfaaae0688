/** `easel keys`: who may use the server, and how much. Works while the server runs, which sees every change at once. */
import { z } from "zod";
import { loadConfig } from "../../config.ts";
import { invalidRequest, must } from "../../engine/generation-request.ts";
import { EaselError, InvalidRequestError } from "../../errors.ts";
import { type Database, databaseLocation, openDatabase } from "../../store/database.ts";
import {
  type ApiKey,
  budgetPeriods,
  invalidity,
  KeyStore,
  priorities,
  scopes as allScopes,
  webhookSecret,
} from "../../store/keys.ts";
import { usageCsv, type UsageQuery, usageReport } from "../../store/usage.ts";

interface CreateFlags {
  scopes?: string;
  models?: string;
  expires?: string;
  requestsPerMinute?: string;
  concurrentPictures?: string;
  budget?: string;
  priority?: string;
  json?: true;
}

const dayMs = 86_400_000;
/** Enough to draw; whoever is to read metrics or see everybody's usage gets that by name. */
const defaultScopes = ["images", "models", "usage"] as const;

/** Creates a key and prints it, once. Throws `invalid_request`, `io_failed`. */
export async function createKey(name: string, flags: CreateFlags): Promise<void> {
  const rights = parseFlags(name, flags);
  await using database = await openHome();
  const { id, key } = await new KeyStore(database).create(rights.name, rights);
  if (flags.json) {
    print({ id, name: rights.name, key, webhook_secret: webhookSecret(key) });
    return;
  }
  process.stderr.write(`The key ${JSON.stringify(rights.name)} (${id}) is shown once, here:\n`);
  process.stdout.write(`${key}\n`);
}

/** Prints all keys with their rights, as a table or as JSON; the keys themselves are not stored. */
export async function listKeys({ json }: { json?: true }): Promise<void> {
  await using database = await openHome();
  const keys = await new KeyStore(database).list();
  if (json) {
    print({ keys: keys.map(describe) });
    return;
  }
  const rows = keys.map((key) => [key.id, key.name, invalidity(key) ?? "valid", limitsOf(key).join(", ")]);
  const widths = [0, 1, 2].map((column) => Math.max(0, ...rows.map((row) => row[column]?.length ?? 0)));
  for (const row of rows) {
    const cells = row.map((cell, column) => cell.padEnd(widths[column] ?? 0));
    process.stdout.write(`${cells.join("  ").trimEnd()}\n`);
  }
}

/** Ends the validity of a key, by its id or its name. Throws `not_found`. */
export async function revokeKey(idOrName: string, { json }: { json?: true }): Promise<void> {
  await using database = await openHome();
  if (!(await new KeyStore(database).revoke(idOrName))) {
    throw new EaselError("not_found", `There is no valid key ${JSON.stringify(idOrName)}; easel keys list shows them.`);
  }
  if (json) print({ revoked: idOrName });
  else process.stderr.write(`The key ${JSON.stringify(idOrName)} opens nothing any more.\n`);
}

/** Prints what was drawn by day, key and model, as CSV or JSON. */
export async function usage({ from, to, key, json }: UsageQuery & { key?: string; json?: true }): Promise<void> {
  const days = z.object({ "--from": day(), "--to": day() }).safeParse({ "--from": from, "--to": to });
  if (!days.success) throw invalidRequest(days.error.issues);
  await using database = await openHome();
  const rows = await usageReport(database, { keyId: key, from, to });
  if (json) print({ usage: rows });
  else process.stdout.write(usageCsv(rows));
}

async function openHome(): Promise<Database> {
  return await openDatabase(databaseLocation(loadConfig(process.env)));
}

function parseFlags(name: string, flags: CreateFlags) {
  const parsed = z
    .object({
      "The name": z.string().regex(/^[^\p{Cc}]{1,100}$/u, { error: "must have 1 to 100 characters, on one line" }),
      "--scopes": listOf(z.enum(allScopes, { error: must(`be a list of ${allScopes.join(", ")}`) })).optional(),
      "--models": listOf(z.string().min(1)).optional(),
      "--expires": z.string().transform(expiry).optional(),
      "--requests-per-minute": count().optional(),
      "--concurrent-pictures": count().optional(),
      "--budget": z.string().transform(budget).optional(),
      "--priority": z.enum(priorities, { error: must(`be ${priorities.join(", ")}`) }).optional(),
    })
    .safeParse({
      "The name": name,
      "--scopes": flags.scopes,
      "--models": flags.models,
      "--expires": flags.expires,
      "--requests-per-minute": flags.requestsPerMinute,
      "--concurrent-pictures": flags.concurrentPictures,
      "--budget": flags.budget,
      "--priority": flags.priority,
    });
  if (!parsed.success) {
    const [issue] = parsed.error.issues;
    throw invalidRequest([{ path: issue?.path.slice(0, 1) ?? [], message: issue?.message ?? "is invalid" }]);
  }
  const values = parsed.data;
  return {
    name: values["The name"],
    scopes: values["--scopes"] ?? defaultScopes,
    models: values["--models"],
    expiresAt: values["--expires"],
    requestsPerMinute: values["--requests-per-minute"],
    concurrentPictures: values["--concurrent-pictures"],
    budget: values["--budget"],
    priority: values["--priority"] ?? "normal",
  };
}

function listOf<T extends z.ZodType<string, string>>(item: T) {
  return z
    .string()
    .transform((text) => text.split(",").map((part) => part.trim()))
    .pipe(z.array(item));
}

function count() {
  const error = must("be a whole number from 1 to 1000000");
  return z.coerce.number({ error }).int({ error }).min(1, { error }).max(1_000_000, { error });
}

function day() {
  return z.iso.date({ error: must("be a day such as 2026-01-31") }).optional();
}

/** "30d", or the day from whose beginning (UTC) the key opens nothing. */
function expiry(text: string): Date {
  const days = /^(\d{1,5})d$/.exec(text)?.[1];
  const date = days === undefined ? new Date(text) : new Date(Date.now() + Number(days) * dayMs);
  const isDay = days !== undefined || z.iso.date().safeParse(text).success;
  if (!isDay || date.getTime() <= Date.now()) {
    throw new InvalidRequestError(
      "--expires",
      `--expires must be a day to come, such as 2030-01-31 or 30d, not ${text}.`,
    );
  }
  return date;
}

/** "500/day": megapixel-steps in a calendar day or month. */
function budget(text: string) {
  const [, amount, unit] = /^(\d+(?:\.\d+)?)\/(\w+)$/.exec(text) ?? [];
  const period = budgetPeriods.find((name) => name === unit);
  const pixelSteps = Math.round(Number(amount) * 1e6);
  if (period === undefined || !(pixelSteps > 0 && Number.isSafeInteger(pixelSteps))) {
    throw new InvalidRequestError(
      "--budget",
      `--budget must be megapixel-steps a day or month, such as 500/day, not ${text}.`,
    );
  }
  return { pixelSteps, period };
}

function describe(key: ApiKey) {
  return {
    id: key.id,
    name: key.name,
    status: invalidity(key) ?? "valid",
    scopes: key.scopes,
    models: key.models ?? null,
    expires_at: key.expiresAt?.toISOString() ?? null,
    requests_per_minute: key.requestsPerMinute ?? null,
    concurrent_pictures: key.concurrentPictures ?? null,
    budget: key.budget ? { megapixel_steps: key.budget.pixelSteps / 1e6, period: key.budget.period } : null,
    priority: key.priority,
    created_at: key.createdAt.toISOString(),
    last_used_at: key.lastUsedAt?.toISOString() ?? null,
    revoked_at: key.revokedAt?.toISOString() ?? null,
  };
}

function limitsOf(key: ApiKey): string[] {
  return [
    key.scopes.join("+"),
    key.models && `only ${key.models.join("+")}`,
    key.requestsPerMinute && `${key.requestsPerMinute} requests a minute`,
    key.concurrentPictures && `${key.concurrentPictures} pictures at once`,
    key.budget && `${key.budget.pixelSteps / 1e6} megapixel-steps a ${key.budget.period}`,
    key.expiresAt && `until ${key.expiresAt.toISOString()}`,
    key.priority !== "normal" && `${key.priority} priority`,
  ].filter((limit) => typeof limit === "string");
}

function print(value: object): void {
  process.stdout.write(`${JSON.stringify(value)}\n`);
}
