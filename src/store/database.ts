/** Easel's database, reached through a typed schema: SQLite in one file, or PostgreSQL by its connection string. */
import { chmodSync, closeSync, mkdirSync, openSync } from "node:fs";
import { dirname, join } from "node:path";
import SQLite from "better-sqlite3";
import {
  type Dialect,
  Kysely,
  PostgresDialect,
  type SqliteDatabase,
  SqliteDialect,
  type SqliteStatement,
} from "kysely";
import { Migrator } from "kysely/migration";
import { EaselError } from "../errors.ts";
import { migrations } from "./migrations.ts";

/** Times are ISO 8601 in UTC, so that they sort as texts; lists and objects are JSON; flags are 0 and 1. */
export interface Schema {
  keys: {
    id: string;
    name: string;
    /** SHA-256 of the key, in hexadecimal. */
    hash: string;
    created_at: string;
    last_used_at: string | null;
    expires_at: string | null;
    revoked_at: string | null;
    scopes: string;
    /** Names of the models it may use; null: all. */
    models: string | null;
    requests_per_minute: number | null;
    concurrent_pictures: number | null;
    budget_pixel_steps: number | null;
    budget_period: string | null;
    priority: string;
  };
  jobs: {
    id: string;
    key_id: string;
    state: string;
    /** 1: its result waits here to be fetched, and it outlives the server. */
    kept: number;
    model: string;
    pictures: number;
    /** Pixels × steps: what was reserved when it was accepted, and what it cost in the end. */
    reserved: number;
    charged: number | null;
    /** How often it began to be drawn. */
    attempts: number;
    created_at: string;
    started_at: string | null;
    finished_at: string | null;
    idempotency_key: string | null;
    fingerprint: string | null;
    /** Only of kept jobs: what to draw, and what the answer's shape depends on. */
    request: string | null;
    result: string | null;
    error: string | null;
    webhook_url: string | null;
    webhook_secret: string | null;
    webhook_attempts: number;
    /** When to try next; null: nothing to deliver. */
    webhook_due_at: string | null;
  };
  usage: {
    key_id: string;
    /** YYYY-MM-DD, UTC. */
    day: string;
    model: string;
    requests: number;
    pictures: number;
    pixel_steps: number;
  };
}

export type Database = Kysely<Schema>;

/** Where the records are: in PostgreSQL when there is an address, else in a file of the data directory. */
export function databaseLocation({ home, databaseUrl }: { home: string; databaseUrl?: string | undefined }): string {
  return databaseUrl ?? join(home, "easel.db");
}

/**
 * Opens the database at `location`, a file's path or a `postgres://` address, and brings its schema up to date. A file is
 * created if need be, readable by its owner only. Throws `io_failed` with one sentence when that cannot be done.
 */
export async function openDatabase(location: string): Promise<Database> {
  if (isPostgres(location)) {
    return await migrated(await postgresDialect(location), (cause) => explainPostgres(location, cause));
  }
  const explain = (cause: unknown) => explainSqlite(location, cause);
  return await migrated(await orIoFailed(() => sqliteDialect(location), explain), explain);
}

/**
 * Keeps the database for one server until it is disposed of, or the process ends in whatever way: a second one would take
 * the first one's work in hand for lost. Throws `io_failed` when another server has it.
 */
export async function claimDatabase(location: string): Promise<AsyncDisposable> {
  const taken = "Another easel serve uses this database; stop that first, or give this one an EASEL_HOME of its own.";
  if (isPostgres(location)) {
    const { default: pg } = await import("pg");
    const client = new pg.Client({ connectionString: location });
    client.on("error", () => {});
    const { rows } = await orIoFailed(
      async () => {
        await client.connect();
        return await client.query<{ claimed: boolean }>("select pg_try_advisory_lock($1) as claimed", [postgresLock]);
      },
      (cause) => explainPostgres(location, cause),
    );
    const claim = { [Symbol.asyncDispose]: () => client.end() };
    if (rows[0]?.claimed) return claim;
    await client.end();
    throw new EaselError("io_failed", taken);
  }
  // The lock of an empty database beside the real one: the system lifts it when the process ends.
  const path = `${location}.server`;
  return await orIoFailed(
    () => {
      closeSync(openSync(path, "a", 0o600));
      const lock = new SQLite(path, { timeout: 0 });
      try {
        lock.exec("begin exclusive");
      } catch (error) {
        lock.close();
        throw error;
      }
      return { [Symbol.asyncDispose]: async () => void lock.close() };
    },
    (cause) => (codeOf(cause).startsWith("SQLITE_BUSY") ? taken : explainSqlite(path, cause)),
  );
}

/** Any number that no other program is likely to lock: "easel" in ASCII. */
const postgresLock = 0x656173656c;

/** Whether a location is PostgreSQL's address rather than a file's path. */
export function isPostgres(location: string): boolean {
  return /^postgres(ql)?:\/\//.test(location);
}

async function migrated(dialect: Dialect, explain: (cause: unknown) => string): Promise<Database> {
  const database = new Kysely<Schema>({ dialect });
  try {
    return await orIoFailed(async () => {
      const migrator = new Migrator({ db: database, provider: { getMigrations: async () => migrations } });
      const { error } = await migrator.migrateToLatest();
      if (error) throw error;
      return database;
    }, explain);
  } catch (error) {
    await database.destroy();
    throw error;
  }
}

async function orIoFailed<T>(action: () => T | Promise<T>, explain: (cause: unknown) => string): Promise<T> {
  try {
    return await action();
  } catch (cause) {
    throw new EaselError("io_failed", explain(cause), { cause });
  }
}

function sqliteDialect(path: string): Dialect {
  mkdirSync(dirname(path), { recursive: true, mode: 0o700 });
  // SQLite gives its companion files (-wal, -shm) the mode of the main one.
  closeSync(openSync(path, "a", 0o600));
  chmodSync(path, 0o600);
  const database = new SQLite(path);
  try {
    database.pragma("journal_mode = WAL");
    // In WAL mode this loses nothing when the process is killed, and spares the event loop a wait for the disk.
    database.pragma("synchronous = NORMAL");
    database.pragma("foreign_keys = ON");
    return new SqliteDialect({ database: withPreparedStatements(database) });
  } catch (error) {
    database.close();
    throw error;
  }
}

/** Kysely has every query prepared anew, which takes longer than most of ours take to run; there are a few dozen of them. */
function withPreparedStatements(database: SQLite.Database): SqliteDatabase {
  const prepared = new Map<string, SqliteStatement>();
  return {
    prepare(sql) {
      const statement = prepared.get(sql) ?? database.prepare(sql);
      prepared.set(sql, statement);
      return statement;
    },
    close: () => database.close(),
  };
}

async function postgresDialect(connectionString: string): Promise<Dialect> {
  const { default: pg } = await import("pg");
  const bigint = pg.types.builtins.INT8;
  const pool = new pg.Pool({
    connectionString,
    connectionTimeoutMillis: 10_000,
    // `count(*)` is a bigint, which pg hands over as a text; no count here exceeds 2^53.
    types: { getTypeParser: (oid, format) => (oid === bigint ? Number : pg.types.getTypeParser(oid, format)) },
  });
  // An idle connection that breaks is replaced at the next query; without a listener it would end the process.
  pool.on("error", () => {});
  return new PostgresDialect({ pool });
}

function explainSqlite(path: string, error: unknown): string {
  const code = codeOf(error);
  if (/^SQLITE_(NOTADB|CORRUPT)/.test(code)) {
    return `The database ${path} is damaged; move it away and start again to get a new one with a new API key.`;
  }
  if (/^(SQLITE_(READONLY|CANTOPEN|PERM)|EACCES|EPERM|EROFS)/.test(code)) {
    return `The database ${path} cannot be written; make the folder and the file writable, or set EASEL_HOME elsewhere.`;
  }
  if (/^SQLITE_(BUSY|LOCKED)/.test(code)) return `The database ${path} is in use by another program; stop that first.`;
  if (/^(SQLITE_FULL|ENOSPC)/.test(code)) return `The disk of the database ${path} is full; free some space.`;
  return `The database ${path} cannot be opened: ${reasonOf(error)}.`;
}

/** The address without what is secret in it. */
function explainPostgres(connectionString: string, error: unknown): string {
  const { host, pathname } = URL.parse(connectionString) ?? { host: "", pathname: "" };
  return `The PostgreSQL database ${pathname.slice(1)} at ${host || "its socket"} cannot be used: ${reasonOf(error)}.`;
}

function codeOf(error: unknown): string {
  return error instanceof Error && "code" in error ? String(error.code) : "";
}

function reasonOf(error: unknown): string {
  const message = error instanceof Error ? error.message : String(error);
  return (message || codeOf(error)).split("\n", 1)[0] ?? "";
}
