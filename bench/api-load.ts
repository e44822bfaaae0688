/**
 * Many clients at once: whether each gets its picture, whether each picture is charged once, and how long the model list
 * takes meanwhile. The clients are in this process, the server and its engine in two others; the lists are asked for by a thread.
 */
import { execFileSync } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { mkdtempSync, rmSync } from "node:fs";
import { setPriority, tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { Worker } from "node:worker_threads";
import { startServer } from "./easel-server.ts";
import { type Figure, figure, percentile } from "./measure.ts";

export interface LoadOptions {
  url: string;
  /** With the scope "admin", to read everybody's usage and to list models. */
  adminKey: string;
  /** With nothing drawn so far: of those who stay for their pictures, and of those who leave for good. */
  stayers: readonly NamedKey[];
  leavers: NamedKey;
  seconds: number;
  clients: number;
  /** Of this thread: in life the clients are elsewhere and take no time from the server. Default: as it is. */
  clientNiceness?: number;
}

export interface NamedKey {
  name: string;
  key: string;
}

export interface LoadReport {
  /** Pictures that arrived. */
  drawn: number;
  /** Times the queue was full; the client came back when it was told to. */
  refused: number;
  /** Requests given up in the middle and sent again with the same Idempotency-Key. */
  resent: number;
  /** Requests given up for good. */
  left: number;
  /** Of each model list, in milliseconds. */
  modelListMs: number[];
}

/** The smallest picture there is: one step, one token. */
const picture = { prompt: "a white cat", size: "16x16", steps: 1 };
const megapixelSteps = (16 * 16) / 1e6;
const impatienceMs = 50;
const probeIntervalMs = 20;
/** Beyond it, a request counts as lost. */
const patienceMs = 60_000;

/**
 * Puts the server under load. Throws when an answer is anything but a picture or a full queue's, and when the usage afterwards
 * is not exactly what arrived: with those who leave for good, at most what they left behind.
 */
export async function loadApi({ clients, ...options }: LoadOptions): Promise<LoadReport> {
  const { url, adminKey, stayers } = options;
  const deadline = performance.now() + options.seconds * 1000;
  const report = { drawn: 0, refused: 0, resent: 0, left: 0 };
  const leavers = { ...options.leavers, drawn: 0, left: 0 };

  /** One picture, however often that takes, unless the time is over before it was accepted. */
  async function draw(key: string, { impatient = false, stream = false } = {}): Promise<void> {
    const idempotencyKey = randomUUID();
    for (let first = true; ; first = false) {
      const signal = impatient && first ? AbortSignal.timeout(impatienceMs) : undefined;
      const response = await post(url, key, { ...picture, stream }, { idempotencyKey, signal });
      if (response === undefined) {
        report.resent++;
      } else if (response.status === 503) {
        report.refused++;
        if (performance.now() > deadline && !impatient) return;
        await sleep(1000 * response.retryAfterSeconds);
      } else {
        if (!hasPicture(response.text)) throw new Error(`no picture came: ${response.status} ${response.text}`);
        report.drawn++;
        return;
      }
    }
  }

  /** Leaves soon and never comes back. */
  async function leave(): Promise<void> {
    const signal = AbortSignal.timeout(impatienceMs);
    const response = await post(url, leavers.key, picture, { signal });
    if (response === undefined) leavers.left++;
    else if (response.status === 503) await sleep(1000 * response.retryAfterSeconds);
    else leavers.drawn++;
  }

  const probe = await startProbe(url, adminKey);
  if (options.clientNiceness !== undefined) setPriority(options.clientNiceness);
  const client = async (index: number) => {
    const { key } = stayers[index % stayers.length]!;
    while (performance.now() < deadline) {
      if (index % 10 === 0) await leave();
      else await draw(key, { impatient: index % 10 === 1, stream: index % 10 === 2 });
    }
  };
  await Promise.all(Array.from({ length: clients }, (_, index) => client(index)));
  const modelListMs = await probe.stop();
  await untilNothingInHand(url, adminKey);
  checkUsage(JSON.parse(await get(url, adminKey, "/v1/usage?key=all")).data, stayers, report.drawn, leavers);
  return { ...report, left: leavers.left, drawn: report.drawn + leavers.drawn, modelListMs };
}

interface Answer {
  status: number;
  retryAfterSeconds: number;
  text: string;
}

interface PostOptions {
  idempotencyKey?: string;
  /** Leaves when it aborts. */
  signal?: AbortSignal | undefined;
}

/** The answer; undefined when the client left. */
async function post(url: string, key: string, body: object, options: PostOptions): Promise<Answer | undefined> {
  try {
    return await answerTo(url, key, body, options);
  } catch (error) {
    if (options.signal?.aborted) return undefined;
    throw error;
  }
}

async function answerTo(url: string, key: string, body: object, options: PostOptions): Promise<Answer> {
  const { idempotencyKey, signal = AbortSignal.timeout(patienceMs) } = options;
  const response = await fetch(`${url}/v1/images/generations`, {
    method: "POST",
    headers: {
      authorization: `Bearer ${key}`,
      "content-type": "application/json",
      ...(idempotencyKey === undefined ? {} : { "idempotency-key": idempotencyKey }),
    },
    body: JSON.stringify(body),
    signal,
  });
  const retryAfterSeconds = Number(response.headers.get("retry-after"));
  const text = await response.text();
  if (response.status === 503 && !(text.includes("queue_full") && retryAfterSeconds > 0)) {
    throw new Error(`unexpected refusal: ${text}`);
  }
  return { status: response.status, retryAfterSeconds, text };
}

function hasPicture(text: string): boolean {
  return /"b64_json":"iVBORw0KGgo/.test(text);
}

/** A thread has the priority that its maker had when it began. */
async function startProbe(url: string, key: string): Promise<{ stop(): Promise<number[]> }> {
  const worker = new Worker(new URL("model-list-probe.ts", import.meta.url), {
    workerData: { url, key, intervalMs: probeIntervalMs },
  });
  const { promise, resolve, reject } = Promise.withResolvers<number[]>();
  worker.once("message", resolve).once("error", reject);
  // Whoever stops it learns of a failure before.
  promise.catch(() => {});
  await once(worker, "online");
  return {
    stop() {
      // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
      worker.postMessage("stop");
      return promise;
    },
  };
}

async function untilNothingInHand(url: string, key: string): Promise<void> {
  while (!/^easel_jobs_in_hand 0$/m.test(await get(url, key, "/metrics"))) await sleep(50);
}

interface UsageRow {
  key_name: string;
  pictures: number;
  megapixel_steps: number;
}

function checkUsage(
  usageRows: UsageRow[],
  stayers: readonly NamedKey[],
  drawn: number,
  leavers: NamedKey & { drawn: number; left: number },
): void {
  const usage = (keys: readonly NamedKey[]) => {
    const rows = usageRows.filter((row) => keys.some(({ name }) => name === row.key_name));
    const sum = (field: "pictures" | "megapixel_steps") => rows.reduce((total, row) => total + row[field], 0);
    return { pictures: sum("pictures"), charged: Math.round(sum("megapixel_steps") / megapixelSteps) };
  };
  const stayed = usage(stayers);
  if (stayed.pictures !== drawn || stayed.charged !== drawn) {
    throw new Error(`${drawn} pictures arrived, ${stayed.pictures} were counted and ${stayed.charged} charged`);
  }
  // Who leaves may have been drawn for just before, and pays for what was drawn.
  const left = usage([leavers]);
  const most = leavers.drawn + leavers.left;
  for (const count of [left.pictures, left.charged]) {
    if (count < leavers.drawn || count > most) {
      throw new Error(`leavers got ${leavers.drawn} of ${most} pictures, but ${left.pictures}/${left.charged} count`);
    }
  }
}

async function get(url: string, key: string, path: string): Promise<string> {
  const response = await fetch(url + path, { headers: { authorization: `Bearer ${key}` } });
  if (!response.ok) throw new Error(`${path} answered ${response.status}`);
  return await response.text();
}

/** Two hundred clients for `seconds`, against `easel serve` with a tiny model of random weights. */
export async function benchApiLoad({ seconds }: { seconds: number }): Promise<Figure[]> {
  const home = mkdtempSync(join(tmpdir(), "easel-bench-"));
  const server = await startServer(home, {
    EASEL_MODEL: join(import.meta.dirname, "../tests/fixtures/flux-dev-tiny"),
    EASEL_QUEUE_BOUND: "120",
    EASEL_QUEUE_BOUND_PER_KEY: "40",
  });
  try {
    await server.request("/v1/images/generations", picture); // loads the model
    const stayers = ["a", "b", "c", "d"].map((name) => createKey(home, name));
    const leavers = createKey(home, "leavers");
    const clients = 200;
    const options = { url: server.url, adminKey: server.key, stayers, leavers, seconds, clients, clientNiceness: 10 };
    const { drawn, refused, resent, left, modelListMs } = await loadApi(options);
    return [
      figure(`${clients} clients for ${seconds} s: pictures, each charged once`, "", [drawn]),
      figure("  pictures a second", "/s", [drawn / seconds]),
      figure("  refused, for the queue was full", "", [refused]),
      figure("  given up, and sent again with the same key", "", [resent]),
      figure("  given up for good", "", [left]),
      figure("  GET /v1/models meanwhile", "ms", modelListMs),
      figure("  its 99th percentile", "ms", [percentile(modelListMs, 0.99)], 50),
      figure("  the server's peak memory, both processes", "MB", [server.stop()], 1000),
    ];
  } finally {
    server.stop();
    rmSync(home, { recursive: true, force: true });
  }
}

function createKey(home: string, name: string): NamedKey {
  const args = [join(import.meta.dirname, "../src/cli/main.ts"), "keys", "create", name, "--json"];
  const output = execFileSync(process.execPath, args, { env: { ...process.env, EASEL_HOME: home }, encoding: "utf8" });
  return { name, key: (JSON.parse(output) as { key: string }).key };
}
