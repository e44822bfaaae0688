import { createHash } from "node:crypto";
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { DatabaseSync } from "node:sqlite";
import { afterEach, beforeEach, expect, test } from "vitest";
import { checkpointApart } from "../src/store/checkpoints.ts";
import { openDatabase } from "../src/store/database.ts";
import { KeyStore } from "../src/store/keys.ts";
import { until } from "./support/easel-server.ts";

let home: string;
let path: string;
beforeEach(() => {
  home = join(mkdtempSync(join(tmpdir(), "easel-store-")), "home");
  path = join(home, "easel.db");
});
afterEach(() => rmSync(join(home, ".."), { recursive: true }));

test("a key that was created opens the door, in this process and the next, and no other key does", async () => {
  let key: string;
  {
    await using database = await openDatabase(path);
    const keys = new KeyStore(database);
    expect(await keys.isEmpty()).toBe(true);
    ({ key } = await keys.create("first"));
    expect(key).toMatch(/^sk-easel-[\w-]{43}$/);
  }
  await using database = await openDatabase(path);
  const keys = new KeyStore(database);
  expect(await keys.isEmpty()).toBe(false);
  expect(await keys.find(key)).toMatchObject({ name: "first", scopes: expect.arrayContaining(["images", "admin"]) });
  expect(await keys.find(`${key}x`)).toBeUndefined();
  expect(await keys.find("")).toBeUndefined();
});

test("the key itself is in none of the files, and only the owner may read them", async () => {
  await using database = await openDatabase(path);
  const { key } = await new KeyStore(database).create("first");
  for (const file of readdirSync(home).map((name) => join(home, name))) {
    expect(readFileSync(file).includes(key)).toBe(false);
    expect(statSync(file).mode & 0o777).toBe(0o600);
  }
  expect(statSync(home).mode & 0o777).toBe(0o700);
});

test("a damaged database is one clear sentence", async () => {
  mkdirSync(home);
  writeFileSync(path, "this is not a database, whatever its name may say ".repeat(100));
  await expect(openDatabase(path)).rejects.toMatchObject({
    code: "io_failed",
    message: `The database ${path} is damaged; move it away and start again to get a new one with a new API key.`,
  });
});

test("a home that cannot be a folder is one clear sentence", async () => {
  writeFileSync(home, "");
  await expect(openDatabase(path)).rejects.toMatchObject({
    code: "io_failed",
    message: expect.stringMatching(/^The database .* cannot be opened: .*\.$/),
  });
});

test("a database of the first release keeps its keys, which may go on doing everything", async () => {
  mkdirSync(home);
  const old = new DatabaseSync(path);
  const hash = createHash("sha256").update("my-key").digest("hex");
  old.exec(`
    create table keys (id text primary key, name text not null, hash text not null unique, created_at text not null);
    insert into keys values ('1', 'first key', '${hash}', '2026-01-01T00:00:00.000Z');
    create table kysely_migration (name varchar(255) not null primary key, timestamp varchar(255) not null);
    insert into kysely_migration values ('0001-keys', '2026-01-01T00:00:00.000Z');
    create table kysely_migration_lock (id varchar(255) not null primary key, is_locked integer default 0 not null);
    insert into kysely_migration_lock values ('migration_lock', 0);
  `);
  old.close();
  await using database = await openDatabase(path);
  expect(await new KeyStore(database).find("my-key")).toMatchObject({
    name: "first key",
    scopes: ["images", "models", "usage", "metrics", "admin"],
    models: undefined,
    budget: undefined,
    priority: "normal",
  });
});

test("a server's log is brought into the file by a thread, and wholly so at the end", async () => {
  const faults: unknown[] = [];
  {
    await using database = await openDatabase(path);
    const thread = await checkpointApart(database, path, (fault) => faults.push(fault));
    const before = statSync(path).size;
    const keys = new KeyStore(database);
    for (let i = 0; i < 200; i++) await keys.create(`key ${i}`);
    expect(statSync(path).size).toBe(before);
    await until(() => statSync(path).size > before);
    expect(await keys.list()).toHaveLength(200);
    await keys.create("the last one");
    await thread[Symbol.asyncDispose]();
  }
  expect(readdirSync(home)).toEqual(["easel.db"]);
  await using database = await openDatabase(path);
  expect(await new KeyStore(database).list()).toHaveLength(201);
  expect(faults).toEqual([]);
});

test("a checkpoint thread that fails is told of, and the database goes on without it", async () => {
  await using database = await openDatabase(path);
  const fault = Promise.withResolvers<unknown>();
  const thread = await checkpointApart(database, join(home, "no-such-folder", "easel.db"), fault.resolve);
  expect(await fault.promise).toMatchObject({ message: expect.stringContaining("directory does not exist") });
  await new KeyStore(database).create("first");
  await thread[Symbol.asyncDispose]();
});
