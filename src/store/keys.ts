/** API keys. Only their hashes are stored: a key is 256 random bits, so a plain SHA-256 cannot be reversed. */
import { createHash, createHmac, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import type { Selectable } from "kysely";
import { EaselError } from "../errors.ts";
import type { Database, Schema } from "./database.ts";

/** What a key may be allowed: to draw, to list models, to see its own usage, to read metrics, to see everybody's usage. */
export const scopes = ["images", "models", "usage", "metrics", "admin"] as const;
export type Scope = (typeof scopes)[number];

export const priorities = ["low", "normal", "high"] as const;
export type Priority = (typeof priorities)[number];

/** What share of the engine a key gets in comparison with others. */
export const laneWeights: Readonly<Record<Priority, number>> = { low: 0.25, normal: 1, high: 4 };

export const budgetPeriods = ["day", "month"] as const;

/** How much may be drawn in a calendar day or month (UTC). */
export interface Budget {
  /** Pixels × denoising steps. */
  pixelSteps: number;
  period: (typeof budgetPeriods)[number];
}

/** What a key may do, and how much; what is undefined is unlimited. */
export interface KeyRights {
  scopes: readonly Scope[];
  models: readonly string[] | undefined;
  expiresAt: Date | undefined;
  requestsPerMinute: number | undefined;
  /** Pictures that may wait or be drawn at the same time. */
  concurrentPictures: number | undefined;
  budget: Budget | undefined;
  priority: Priority;
}

export interface ApiKey extends KeyRights {
  id: string;
  name: string;
  createdAt: Date;
  lastUsedAt: Date | undefined;
  revokedAt: Date | undefined;
}

const allRights: KeyRights = {
  scopes,
  models: undefined,
  expiresAt: undefined,
  requestsPerMinute: undefined,
  concurrentPictures: undefined,
  budget: undefined,
  priority: "normal",
};

/** Who draws without a key from this machine, where the operator allows that. */
export const loopbackClient: ApiKey = {
  ...allRights,
  id: "loopback",
  name: "loopback",
  scopes: ["images", "models", "usage"],
  createdAt: new Date(0),
  lastUsedAt: undefined,
  revokedAt: undefined,
};

export class KeyStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Stores a new key, or the one given, and returns it; it cannot be read again later. */
  async create(
    name: string,
    {
      key = `sk-easel-${randomBytes(32).toString("base64url")}`,
      ...rights
    }: Partial<KeyRights> & { key?: string } = {},
  ): Promise<{ id: string; key: string }> {
    const id = `key_${randomUUID()}`;
    const { models, expiresAt, budget, ...granted } = { ...allRights, ...rights };
    await this.#database
      .insertInto("keys")
      .values({
        id,
        name,
        hash: hashOf(key),
        created_at: new Date().toISOString(),
        expires_at: expiresAt?.toISOString() ?? null,
        scopes: JSON.stringify(granted.scopes),
        models: models === undefined ? null : JSON.stringify(models),
        requests_per_minute: granted.requestsPerMinute ?? null,
        concurrent_pictures: granted.concurrentPictures ?? null,
        budget_pixel_steps: budget?.pixelSteps ?? null,
        budget_period: budget?.period ?? null,
        priority: granted.priority,
      })
      .execute();
    return { id, key };
  }

  /** The key as it is stored, be it expired or revoked; undefined when it is none of Easel's. */
  async find(key: string): Promise<ApiKey | undefined> {
    const hash = hashOf(key);
    const row = await this.#database.selectFrom("keys").selectAll().where("hash", "=", hash).executeTakeFirst();
    // The index's own comparison leaks at most how much of a hash agrees, and nobody can aim at a hash.
    return row && timingSafeEqual(Buffer.from(row.hash), Buffer.from(hash)) ? apiKey(row) : undefined;
  }

  async findById(id: string): Promise<ApiKey | undefined> {
    if (id === loopbackClient.id) return loopbackClient;
    const row = await this.#database.selectFrom("keys").selectAll().where("id", "=", id).executeTakeFirst();
    return row && apiKey(row);
  }

  /** All keys, the oldest first, with those that are revoked. */
  async list(): Promise<ApiKey[]> {
    return (await this.#database.selectFrom("keys").selectAll().orderBy("created_at").execute()).map(apiKey);
  }

  /** Ends the validity of the key with this id, or of the one valid key of this name; false when there is none. */
  async revoke(idOrName: string): Promise<boolean> {
    const { numUpdatedRows } = await this.#database
      .updateTable("keys")
      .set({ revoked_at: new Date().toISOString() })
      .where("revoked_at", "is", null)
      .where((or) => or.or([or("id", "=", idOrName), or("name", "=", idOrName)]))
      .executeTakeFirst();
    return numUpdatedRows > 0n;
  }

  /** Whether no key was ever created. */
  async isEmpty(): Promise<boolean> {
    return (await this.#database.selectFrom("keys").select("id").limit(1).executeTakeFirst()) === undefined;
  }
}

/**
 * What the webhooks of this key's jobs are signed with. It follows from the key, so its owner knows it without being told,
 * and can hand it to a receiver who must not know the key.
 */
export function webhookSecret(key: string): string {
  return `whsec_${createHmac("sha256", key).update("easel webhook").digest("base64")}`;
}

/** Why a stored key opens nothing any more; undefined when it does. */
export function invalidity(
  { expiresAt, revokedAt }: ApiKey,
  now: Date = new Date(),
): "revoked" | "expired" | undefined {
  if (revokedAt !== undefined) return "revoked";
  return expiresAt !== undefined && expiresAt <= now ? "expired" : undefined;
}

/** Whether the key may use the model of this name. */
export function mayUse({ models }: ApiKey, model: string): boolean {
  return models === undefined || models.includes(model);
}

/** Throws `forbidden` unless the key may use the model of this name, be there such a model or not. */
export function requireModel(key: ApiKey, model: string): void {
  if (mayUse(key, model)) return;
  throw new EaselError(
    "forbidden",
    `This API key may not use the model ${JSON.stringify(model.slice(0, 100))}; it may use ${key.models?.join(", ")}.`,
    { param: "model" },
  );
}

function apiKey(row: Selectable<Schema["keys"]>): ApiKey {
  return {
    id: row.id,
    name: row.name,
    createdAt: new Date(row.created_at),
    lastUsedAt: date(row.last_used_at),
    expiresAt: date(row.expires_at),
    revokedAt: date(row.revoked_at),
    scopes: JSON.parse(row.scopes) as Scope[],
    models: row.models === null ? undefined : (JSON.parse(row.models) as string[]),
    requestsPerMinute: row.requests_per_minute ?? undefined,
    concurrentPictures: row.concurrent_pictures ?? undefined,
    budget:
      row.budget_pixel_steps === null
        ? undefined
        : { pixelSteps: row.budget_pixel_steps, period: row.budget_period as Budget["period"] },
    priority: row.priority as Priority,
  };
}

function date(text: string | null): Date | undefined {
  return text === null ? undefined : new Date(text);
}

function hashOf(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}
