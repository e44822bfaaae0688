import { DatabaseSync } from "node:sqlite";
import { mkdirSync, mkdtempSync, readdirSync, rmSync } from "node:fs";
import { createServer } from "node:http";
import { type AddressInfo, connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test, vi } from "vitest";
import type { JobObject } from "../src/server/job-answer.ts";
import { longRequest, startServer, tinyModelFolder, until } from "./support/easel-server.ts";
import { form, leftHalfTransparent, noise } from "./support/forms.ts";
import { childrenOf, type CliRun, isAlive, runCli, startCli } from "./support/run-cli.ts";

// Several starts of a server in each test.
vi.setConfig({ testTimeout: 180_000 });

const key = "sk-test";
const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
const small = { prompt: "a white cat", size: "32x32", steps: 2 };
/** Takes some seconds. */
const medium = { prompt: "a white cat", size: "256x256", steps: 60 };

let cwd: string;
let running: CliRun | undefined;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), "easel-restart-"));
});
afterEach(async () => {
  running?.child.kill("SIGKILL");
  await running?.ended;
  rmSync(cwd, { recursive: true });
});

/** `easel serve` as a process, and its address. */
async function serve(env: Record<string, string> = {}) {
  const run = startCli(["serve", "--port", "0", "--model", tinyModelFolder], {
    cwd,
    env: { EASEL_API_KEY: key, ...env },
  });
  running = run;
  await until(() => run.output.stdout.includes("listening on "), 60_000);
  const url = /listening on (\S+)/.exec(run.output.stdout)?.[1] ?? "";
  return {
    ...run,
    post: (path: string, body: object) => fetch(url + path, { method: "POST", headers, body: JSON.stringify(body) }),
    order: async (body: object) =>
      (await (
        await fetch(`${url}/v1/images/jobs`, { method: "POST", headers, body: JSON.stringify(body) })
      ).json()) as JobObject,
    edit: (fields: Record<string, string | Uint8Array>, prefer = "") =>
      fetch(`${url}/v1/images/edits`, {
        method: "POST",
        headers: { authorization: headers.authorization, ...(prefer === "" ? {} : { prefer }) },
        body: form(fields),
      }),
    look: async (id: string) => (await (await fetch(`${url}/v1/images/jobs/${id}`, { headers })).json()) as JobObject,
  };
}
type Serving = Awaited<ReturnType<typeof serve>>;

async function ended(server: Serving, id: string): Promise<JobObject> {
  for (;;) {
    const job = await server.look(id);
    if (!["queued", "running"].includes(job.status)) return job;
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
}

async function untilRunning(server: Serving, id: string): Promise<void> {
  while ((await server.look(id)).progress === null) await new Promise((resolve) => setTimeout(resolve, 20));
}

test("a server that was killed takes up its jobs where it starts again, and says what was lost", async () => {
  const first = await serve();
  const jobs = [await first.order({ ...medium, seed: 7 }), await first.order({ ...small, seed: 8 })];
  const waiting = first.post("/v1/images/generations", small).catch((error: unknown) => error);
  await untilRunning(first, jobs[0]!.id);
  await new Promise((resolve) => setTimeout(resolve, 300));
  const [engine = 0] = await childrenOf(first.child.pid ?? 0);
  first.child.kill("SIGKILL");
  await first.ended;
  expect(await waiting).toBeInstanceOf(Error);
  await until(() => !isAlive(engine));

  const second = await serve();
  expect(second.output.stderr).toContain(jobs[1]!.id);
  expect(second.output.stderr).toContain("were lost with the last run, and not charged");
  for (const { id } of jobs) expect(await ended(second, id)).toMatchObject({ status: "succeeded" });
  expect((await second.look(jobs[1]!.id)).result?.data).toMatchObject([{ seed: 8 }]);
  const { stdout } = await runCli(["usage", "--json"], { cwd });
  const { usage } = JSON.parse(stdout) as { usage: { requests: number; pictures: number; megapixelSteps: number }[] };
  // The lost one stays in the count of requests, with neither pictures nor cost.
  const cost = (256 * 256 * 60 + 32 * 32 * 2) / 1e6;
  expect(usage).toMatchObject([{ requests: 3, pictures: 2, megapixelSteps: cost }]);
});

test("jobs that start from a picture and a mask are drawn from these after the restart, too", async () => {
  const first = await serve();
  const [image, mask] = [await noise(256, 192).png().toBuffer(), await leftHalfTransparent(noise(256, 192), 256, 192)];
  const fields = { image, mask, prompt: "a red hat", steps: "30", seed: "7" };
  const orderEdit = async (more: Record<string, string> = {}) =>
    (await (await first.edit({ ...fields, ...more }, "respond-async")).json()) as JobObject;
  const [drawn, waiting, robbed] = [await orderEdit(), await orderEdit({ seed: "8" }), await orderEdit({ seed: "9" })];
  await untilRunning(first, drawn.id);
  first.child.kill("SIGKILL");
  await first.ended;
  const kept = join(cwd, "home", "job-inputs");
  expect(readdirSync(kept).toSorted()).toEqual([drawn.id, waiting.id, robbed.id].toSorted());
  rmSync(join(kept, robbed.id), { recursive: true });
  mkdirSync(join(kept, "job_of-nobody.unfinished"));

  const second = await serve();
  const undisturbed = (await (await second.edit(fields)).json()) as JobObject["result"];
  expect((await ended(second, drawn.id)).result?.data).toEqual(undisturbed?.data);
  expect((await ended(second, waiting.id)).result?.data).toMatchObject([{ seed: 8, size: "256x192" }]);
  expect(await second.look(robbed.id)).toMatchObject({
    status: "failed",
    error: { code: "lost", message: "The image that the job was given is gone or damaged; order it again." },
  });
  expect(readdirSync(kept)).toEqual([]);
});

test("a picture that ends the server twice is not tried a third time, and the webhook is told", async () => {
  const told = Promise.withResolvers<string>();
  const receiver = createServer((request, response) => {
    request
      .setEncoding("utf8")
      .on("data", told.resolve)
      .on("end", () => response.end());
  });
  await new Promise<void>((listening) => receiver.listen(0, "127.0.0.1", listening));
  const webhook_url = `http://127.0.0.1:${(receiver.address() as AddressInfo).port}/`;
  const env = { EASEL_WEBHOOK_ALLOW_PRIVATE: "1" };
  let id = "";
  for (let time = 0; time < 2; time++) {
    const server = await serve(env);
    id ||= (await server.order({ ...medium, webhook_url })).id;
    await untilRunning(server, id);
    server.child.kill("SIGKILL");
    await server.ended;
  }
  const third = await serve(env);
  expect(await third.look(id)).toMatchObject({ status: "failed", error: { code: "lost" } });
  expect(JSON.parse(await told.promise)).toMatchObject({ type: "image.job.failed", data: { id } });
  receiver.close();
});

test("a server that is told to stop finishes what is in hand within its limit, and keeps the rest for the next", async () => {
  const first = await serve({ EASEL_SHUTDOWN_SECONDS: "30" });
  const work = first.post("/v1/images/generations", medium);
  const { id } = await first.order({ ...small, seed: 9 });
  await until(() => readdirSync(join(cwd, "home")).includes("easel.db"));
  await new Promise((resolve) => setTimeout(resolve, 500));
  first.child.kill("SIGTERM");
  expect((await work).status).toBe(200);
  expect(await first.ended).toBe(0);
  const second = await serve();
  expect((await ended(second, id)).result?.data).toMatchObject([{ seed: 9 }]);
});

test("what does not end within the limit is answered, and a kept job waits for the next start without blame", async () => {
  const first = await serve({ EASEL_SHUTDOWN_SECONDS: "0" });
  const { id } = await first.order(longRequest);
  await untilRunning(first, id);
  const work = first.post("/v1/images/generations", small);
  await new Promise((resolve) => setTimeout(resolve, 300));
  first.child.kill("SIGTERM");
  const answer = await work;
  expect([answer.status, await answer.json()]).toMatchObject([503, { error: { code: "cancelled" } }]);
  expect(await first.ended).toBe(0);
  using database = new DatabaseSync(join(cwd, "home", "easel.db"));
  expect(database.prepare("select id, state, attempts from jobs where kept = 1").all()).toEqual([
    { id, state: "queued", attempts: 0 },
  ]);
});

test("a client that does not read its answer does not hold up the end", async () => {
  const server = await startServer();
  const body = JSON.stringify({ prompt: "a white cat", size: "512x512", steps: 1, n: 10 });
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.on("error", () => {}).pause();
  socket.write(
    `POST /v1/images/generations HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${server.key}\r\n` +
      `Content-Type: application/json\r\nContent-Length: ${body.length}\r\n\r\n${body}`,
  );
  await until(() => server.log.join("").includes("answered") || server.jobs.inHand > 0);
  await until(() => server.jobs.inHand === 0, 60_000);
  const startedMs = performance.now();
  await server[Symbol.asyncDispose]();
  expect(performance.now() - startedMs).toBeLessThan(10_000);
  socket.destroy();
});
