import { randomUUID } from "node:crypto";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import * as fc from "fast-check";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { claimDatabase, type Database, openDatabase } from "../src/store/database.ts";
import { JobStore, type NewJob } from "../src/store/jobs.ts";
import { type ApiKey, type KeyRights, KeyStore } from "../src/store/keys.ts";
import { budgetState, usageCsv, usageReport } from "../src/store/usage.ts";
import { startServer, until } from "./support/easel-server.ts";
import { type PostgresServer, startPostgres } from "./support/postgres.ts";

let postgres: PostgresServer | undefined;
beforeAll(async () => {
  postgres = await startPostgres();
});
afterAll(async () => await postgres?.[Symbol.asyncDispose]());

const newJob = (pixelSteps: number, rest: Partial<NewJob> = {}): NewJob => ({
  id: `job_${randomUUID()}`,
  model: "tiny",
  pictures: 1,
  pixelSteps,
  ...rest,
});
const daily = (pixelSteps: number) => ({ pixelSteps, period: "day" as const });

describe.each(["SQLite", "PostgreSQL"])("with %s", (kind) => {
  let folder: string;
  let location: string;
  let database: Database;
  let keys: KeyStore;
  let jobs: JobStore;
  beforeEach(async ({ skip }) => {
    folder = mkdtempSync(join(tmpdir(), "easel-budgets-"));
    if (kind === "PostgreSQL" && postgres === undefined) skip("there is no PostgreSQL here");
    location = kind === "SQLite" ? join(folder, "easel.db") : await postgres!.newDatabase();
    database = await openDatabase(location);
    keys = new KeyStore(database);
    jobs = new JobStore(database);
  });
  afterEach(async () => {
    await database?.destroy();
    rmSync(folder, { recursive: true });
  });

  async function keyWith(rights: Partial<KeyRights>): Promise<ApiKey> {
    const { id } = await keys.create("test", rights);
    return (await keys.findById(id))!;
  }
  const used = async (key: ApiKey) => (await budgetState(database, key))?.usedPixelSteps;

  test("one server at a time has the database, until it ends", async () => {
    {
      await using _ = await claimDatabase(location);
      await expect(claimDatabase(location)).rejects.toMatchObject({
        code: "io_failed",
        message: expect.stringContaining("Another easel serve uses this database"),
      });
    }
    await using _ = await claimDatabase(location);
  });

  test("a key comes back with the rights it was given", async () => {
    const expiresAt = new Date("2030-01-31T00:00:00Z");
    const rights = { models: ["a"], expiresAt, requestsPerMinute: 5, concurrentPictures: 2, priority: "high" as const };
    const { id, key } = await keys.create("alice", { ...rights, scopes: ["images"], budget: daily(5) });
    const found = await keys.find(key);
    expect(found).toMatchObject({ id, name: "alice", ...rights, scopes: ["images"], budget: daily(5) });
    expect((await keys.list()).map(({ name }) => name)).toEqual(["alice"]);
    expect(await keys.revoke("alice")).toBe(true);
    expect((await keys.find(key))?.revokedAt).toBeInstanceOf(Date);
    expect(await keys.revoke("alice")).toBe(false);
  });

  test("however many ask at the same time, a budget is spent to the last pixel and never beyond", async () => {
    const costs = fc.array(fc.integer({ min: 1, max: 2 ** 40 }), { minLength: 1, maxLength: 20 });
    const outcomes = fc.infiniteStream(
      fc.record({ share: fc.double({ min: 0, max: 1, noNaN: true }), settles: fc.boolean() }),
    );
    await fc.assert(
      fc.asyncProperty(costs, fc.double({ min: 0, max: 1, noNaN: true }), outcomes, async (all, part, ends) => {
        const total = all.reduce((sum, cost) => sum + cost, 0);
        const key = await keyWith({ budget: daily(Math.round(total * part)) });
        const accepted: NewJob[] = [];
        await Promise.all(
          all.map(async (cost) => {
            const job = newJob(cost);
            await jobs.accept(job, key).then(
              () => accepted.push(job),
              (error: unknown) => expect(error).toMatchObject({ code: "insufficient_quota" }),
            );
          }),
        );
        const taken = accepted.reduce((sum, { pixelSteps }) => sum + pixelSteps, 0);
        expect(await used(key)).toBe(taken);
        expect(taken).toBeLessThanOrEqual(key.budget!.pixelSteps);
        // Whoever was refused did not fit beside the others.
        const refused = all.length - accepted.length;
        const smallest = Math.min(...all);
        if (refused === all.length) expect(smallest).toBeGreaterThan(key.budget!.pixelSteps);

        let expected = 0;
        await Promise.all(
          accepted.map(async ({ id, pixelSteps }) => {
            const { share, settles } = ends.next().value!;
            const cost = settles ? Math.round(pixelSteps * share) : pixelSteps;
            expected += cost;
            if (!settles) return;
            const end = { state: "succeeded", pictures: 1, pixelSteps: cost } as const;
            // Told twice, counted once.
            const told = await Promise.all([jobs.settle(id, end), jobs.settle(id, end)]);
            expect(told.filter(Boolean)).toHaveLength(1);
          }),
        );
        expect(await used(key)).toBe(expected);
      }),
      { numRuns: 15 },
    );
  });

  test("pictures in hand are counted exactly, and those that ended make room", async () => {
    const key = await keyWith({ concurrentPictures: 3 });
    const all = Array.from({ length: 8 }, () => newJob(1));
    const results = await Promise.allSettled(all.map((job) => jobs.accept(job, key)));
    const accepted = all.filter((_, index) => results[index]?.status === "fulfilled");
    expect(accepted).toHaveLength(3);
    await expect(jobs.accept(newJob(1), key)).rejects.toMatchObject({ code: "rate_limit_exceeded" });
    await jobs.settle(accepted[0]!.id, { state: "cancelled", pictures: 0, pixelSteps: 0 });
    await jobs.accept(newJob(1), key);
    await expect(jobs.accept(newJob(1, { pictures: 4 }), key)).rejects.toMatchObject({
      code: "invalid_request",
      param: "n",
    });
  });

  test("an acceptance that is taken back leaves no trace in the usage", async () => {
    const key = await keyWith({ budget: daily(10) });
    const job = newJob(10);
    await jobs.accept(job, key);
    await jobs.withdraw(job.id);
    expect(await used(key)).toBe(0);
    expect(await usageReport(database)).toMatchObject([{ requests: 0, pictures: 0, megapixelSteps: 0 }]);
    await jobs.accept(newJob(10), key);
  });

  test("a day's budget begins anew at midnight, a month's on the first, in UTC", async () => {
    const key = await keyWith({ budget: { pixelSteps: 10, period: "month" } });
    await jobs.accept(newJob(7), key);
    const state = await budgetState(database, key, new Date());
    expect(state?.usedPixelSteps).toBe(7);
    const next = new Date(state!.resetsAt.getTime());
    expect(next.getUTCDate()).toBe(1);
    expect((await budgetState(database, key, next))?.usedPixelSteps).toBe(0);
    const midnight = await budgetState(database, { ...key, budget: daily(10) }, new Date("2031-12-31T23:59:59Z"));
    expect(midnight?.resetsAt.toISOString()).toBe("2032-01-01T00:00:00.000Z");
  });

  test("usage is told by day, key and model, and exported as CSV that no spreadsheet runs", async () => {
    const { id } = await keys.create('=HYPERLINK("evil"), Inc.');
    const key = (await keys.findById(id))!;
    for (const model of ["tiny", "tiny", "large"]) await jobs.accept(newJob(1_500_000, { model }), key);
    const rows = await usageReport(database, { keyId: id });
    expect(rows).toMatchObject([
      { model: "large", requests: 1, pictures: 1, megapixelSteps: 1.5 },
      { model: "tiny", requests: 2, pictures: 2, megapixelSteps: 3 },
    ]);
    expect(await usageReport(database, { keyId: "another" })).toEqual([]);
    expect(await usageReport(database, { to: "2000-01-01" })).toEqual([]);
    const [header, first] = usageCsv(rows).split("\r\n");
    expect(header).toBe("day,key_id,key_name,model,requests,pictures,megapixel_steps");
    expect(first).toBe(`${rows[0]?.day},${id},"'=HYPERLINK(""evil""), Inc.",large,1,1,1.5`);
  });

  test("a job is found by its own key only, and forgotten with time", async () => {
    const [key, other] = [await keyWith({}), await keyWith({})];
    const job = newJob(1, { kept: { request: { prompt: "a cat" } }, idempotencyKey: "once", fingerprint: "f" });
    await jobs.accept(job, key);
    expect(await jobs.find(job.id, other.id)).toBeUndefined();
    expect(await jobs.find(job.id, key.id)).toMatchObject({ state: "queued", request: { prompt: "a cat" } });
    expect(await jobs.findRepeated(key.id, "once")).toMatchObject({ id: job.id, fingerprint: "f" });
    await jobs.start(job.id);
    expect(await jobs.unfinished()).toMatchObject([{ id: job.id, state: "running", attempts: 1 }]);
    await jobs.settle(job.id, { state: "succeeded", pictures: 1, pixelSteps: 1, result: { images: [] } });
    expect(await jobs.forget(new Date(Date.now() - 1000))).toEqual([]);
    expect(await jobs.forget(new Date(Date.now() + 1000))).toEqual([job.id]);
  });
});

test("a server keeps its records in PostgreSQL, from one start to the next", async ({ skip }) => {
  if (postgres === undefined) return skip("there is no PostgreSQL here");
  const settings = { EASEL_DATABASE_URL: await postgres.newDatabase() };
  const small = { prompt: "a white cat", size: "32x32", steps: 2 };
  let key: string;
  {
    await using server = await startServer(settings);
    ({ key } = server);
    const statuses = Array.from(
      { length: 8 },
      async () => (await server.fetch("/v1/images/generations", small)).status,
    );
    expect(new Set(await Promise.all(statuses))).toEqual(new Set([200]));
  }
  await using server = await startServer(settings);
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  const usage = await (await fetch(`${server.url}/v1/usage`, { headers })).json();
  expect(usage).toMatchObject({ data: [{ requests: 8, pictures: 8, megapixel_steps: (8 * 32 * 32 * 2) / 1e6 }] });
  const ordered = await fetch(`${server.url}/v1/images/jobs`, { method: "POST", headers, body: JSON.stringify(small) });
  const { id } = (await ordered.json()) as { id: string };
  await until(() => server.jobs.inHand === 0);
  expect(await (await fetch(`${server.url}/v1/images/jobs/${id}`, { headers })).json()).toMatchObject({
    status: "succeeded",
    result: { data: [{ size: "32x32" }] },
  });
});

test("a PostgreSQL that cannot be reached is one clear sentence, without the password", async () => {
  await expect(openDatabase("postgres://easel:secret@127.0.0.1:1/pictures")).rejects.toMatchObject({
    code: "io_failed",
    message: expect.stringMatching(
      /^The PostgreSQL database pictures at 127\.0\.0\.1:1 cannot be used: (?!.*secret).*\.$/,
    ),
  });
});
