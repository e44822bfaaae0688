/** API keys. Only their hashes are stored: a key is 256 random bits, so a plain SHA-256 cannot be reversed. */
import { createHash, randomBytes, randomUUID, timingSafeEqual } from "node:crypto";
import type { Database } from "./database.ts";

export class KeyStore {
  readonly #database: Database;

  constructor(database: Database) {
    this.#database = database;
  }

  /** Stores a new key, or the one given, and returns it; it cannot be read again later. */
  async create(name: string, key = `sk-easel-${randomBytes(32).toString("base64url")}`): Promise<string> {
    await this.#database
      .insertInto("keys")
      .values({ id: randomUUID(), name, hash: hashOf(key), created_at: new Date().toISOString() })
      .execute();
    return key;
  }

  /** Whether the key is one of those stored. */
  async verify(key: string): Promise<boolean> {
    const hash = hashOf(key);
    const row = await this.#database.selectFrom("keys").select("hash").where("hash", "=", hash).executeTakeFirst();
    // The index's own comparison leaks at most how much of a hash agrees, and nobody can aim at a hash.
    return row !== undefined && timingSafeEqual(Buffer.from(row.hash), Buffer.from(hash));
  }

  /** Whether no key was ever created. */
  async isEmpty(): Promise<boolean> {
    return (await this.#database.selectFrom("keys").select("id").limit(1).executeTakeFirst()) === undefined;
  }
}

function hashOf(key: string): string {
  return createHash("sha256").update(key).digest("hex");
}
