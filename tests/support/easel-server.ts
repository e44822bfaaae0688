/** A real server on 127.0.0.1 with a real engine process, for tests. */
import { mkdtempSync, rmSync } from "node:fs";
import type { AddressInfo } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import type { FastifyInstance } from "fastify";
import { loadConfig } from "../../src/config.ts";
import type { Engine } from "../../src/engine/engine.ts";
import type { Jobs } from "../../src/engine/jobs.ts";
import { LoraCatalog } from "../../src/engine/lora-catalog.ts";
import { ModelCatalog } from "../../src/engine/model-catalog.ts";
import type { AppOptions } from "../../src/server/app.ts";
import { Service } from "../../src/server/service.ts";
import type { KeyStore } from "../../src/store/keys.ts";

/** Two tiny FLUX pipelines with random weights; their pictures mean nothing. */
export const tinyModel = "flux-dev-tiny";
export const otherTinyModel = "flux-schnell-tiny";
export const tinyModelFolder = fixture(tinyModel);

/** A request that takes about a minute if nothing stops it. */
export const longRequest = { prompt: "a long work", size: "256x256", steps: 150, n: 10 };

export interface EaselServer extends AsyncDisposable {
  url: string;
  key: string;
  /** The data directory. */
  home: string;
  app: FastifyInstance;
  engine: Engine;
  keys: KeyStore;
  jobs: Jobs;
  /** What the server has logged. */
  log: string[];
  /** `fetch` with the key; a body is sent as JSON by POST. */
  fetch(path: string, body?: unknown, init?: RequestInit): Promise<Response>;
}

/** A server whose default model is the tiny one; `folders` hold further models. */
export async function startServer(
  settings: Record<string, string> = {},
  { folders = [], ...options }: Pick<AppOptions, "patience"> & { folders?: string[] } = {},
): Promise<EaselServer> {
  const home = mkdtempSync(join(tmpdir(), "easel-server-"));
  const config = loadConfig({ EASEL_HOME: home, EASEL_MODEL: tinyModel, EASEL_THREADS: "1", ...settings });
  const catalog = new ModelCatalog({ home, folders: [tinyModelFolder, fixture(otherTinyModel), ...folders] });
  const log: string[] = [];
  const stream = { write: (line: string) => void log.push(line) };
  const service = await Service.open({
    ...config,
    catalog,
    loraCatalog: new LoraCatalog({ home, files: [fixture("formats/lora-diffusers.safetensors")] }),
    defaultModel: config.model,
    limits: config,
    niceness: 5,
    log: { level: "debug", stream },
    webhookRetryDelaysMs: [10, 20, 40],
    ...options,
  });
  const { app, engine, keys } = service;
  const { key } = await keys.create("test");
  await app.listen({ host: "127.0.0.1", port: 0 });
  const url = `http://127.0.0.1:${(app.server.address() as AddressInfo).port}`;

  return {
    url,
    key,
    home,
    app,
    engine,
    keys,
    jobs: service.jobs,
    log,
    fetch(path, body, init = {}) {
      const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
      if (body === undefined) return fetch(url + path, { headers, ...init });
      return fetch(url + path, { method: "POST", headers, body: JSON.stringify(body), ...init });
    },
    async [Symbol.asyncDispose]() {
      await service.close();
      rmSync(home, { recursive: true });
    },
  };
}

/** Waits until `condition` holds, checking every 10 ms. */
export async function until(condition: () => boolean, timeoutMs = 20_000): Promise<void> {
  for (const deadline = performance.now() + timeoutMs; !condition();) {
    if (performance.now() > deadline) throw new Error("the condition did not come true in time");
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/** Width, height and colour type from a PNG's header. */
export function pngHeader(data: Uint8Array): { width: number; height: number; colorType: number } {
  const view = Buffer.from(data);
  if (view.toString("latin1", 1, 4) !== "PNG") throw new Error("not a PNG file");
  return { width: view.readUInt32BE(16), height: view.readUInt32BE(20), colorType: view[25] ?? -1 };
}

function fixture(name: string): string {
  return fileURLToPath(new URL(`../fixtures/${name}`, import.meta.url));
}
