/** Easel's database: SQLite in one file, reached through a typed schema. */
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { dirname } from "node:path";
import SQLite from "better-sqlite3";
import { Kysely, SqliteDialect } from "kysely";
import { Migrator } from "kysely/migration";
import { EaselError } from "../errors.ts";
import { migrations } from "./migrations.ts";

export interface Schema {
  keys: {
    id: string;
    name: string;
    /** SHA-256 of the key, in hexadecimal. */
    hash: string;
    /** ISO 8601, UTC. */
    created_at: string;
  };
}

export type Database = Kysely<Schema>;

/**
 * Opens the database at `path`, creating it (readable by its owner only) and bringing its schema up to date.
 * Throws `io_failed` with one sentence when it is damaged, locked, or cannot be written.
 */
export async function openDatabase(path: string): Promise<Database> {
  let sqlite: SQLite.Database | undefined;
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
    // SQLite gives its companion files (-wal, -shm) the mode of the main one.
    closeSync(openSync(path, "a", 0o600));
    chmodSync(path, 0o600);
    sqlite = new SQLite(path);
    sqlite.pragma("journal_mode = WAL");
    sqlite.pragma("foreign_keys = ON");
    const database = new Kysely<Schema>({ dialect: new SqliteDialect({ database: sqlite }) });
    const migrator = new Migrator({ db: database, provider: { getMigrations: async () => migrations } });
    const { error } = await migrator.migrateToLatest();
    if (error) throw error;
    return database;
  } catch (cause) {
    sqlite?.close();
    throw new EaselError("io_failed", explain(path, cause), { cause });
  }
}

function explain(path: string, error: unknown): string {
  const code = error instanceof Error && "code" in error ? String(error.code) : "";
  if (/^SQLITE_(NOTADB|CORRUPT)/.test(code)) {
    return `The database ${path} is damaged; move it away and start again to get a new one with a new API key.`;
  }
  if (/^(SQLITE_(READONLY|CANTOPEN|PERM)|EACCES|EPERM|EROFS)/.test(code)) {
    return `The database ${path} cannot be written; make the folder and the file writable, or set EASEL_HOME elsewhere.`;
  }
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) return `The database ${path} is in use by another program; stop that first.`;
  if (/^(SQLITE_FULL|ENOSPC)/.test(code)) return `The disk of the database ${path} is full; free some space.`;
  const reason = error instanceof Error ? error.message : String(error);
  return `The database ${path} cannot be opened: ${reason}.`;
}
