import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { openDatabase } from "../src/store/database.ts";
import { KeyStore } from "../src/store/keys.ts";

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
