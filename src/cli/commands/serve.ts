/** `easel serve`: the HTTP server, from its first key to its orderly end. */
import type { AddressInfo } from "node:net";
import { join } from "node:path";
import type { FastifyInstance } from "fastify";
import { type Config, loadConfig } from "../../config.ts";
import { LoraCatalog } from "../../engine/lora-catalog.ts";
import { UpscalerCatalog } from "../../engine/upscaler-catalog.ts";
import { EaselError } from "../../errors.ts";
import { Service } from "../../server/service.ts";
import type { KeyStore } from "../../store/keys.ts";
import { exitCodes } from "../exit-codes.ts";
import { Interruption } from "../interruption.ts";
import { chooseModel } from "../model-choice.ts";

interface ServeFlags {
  host?: string;
  port?: string;
  model?: string;
  device?: string;
  precision?: string;
  threads?: string;
  openLoopback?: true;
}

/** Enough for the API to answer in milliseconds while every core draws. */
const engineNiceness = 5;

/** Serves until SIGINT or SIGTERM. Throws `EaselError` when it cannot start. */
export async function serve(flags: ServeFlags): Promise<number> {
  using interruption = new Interruption();
  const config = loadConfig(process.env, { ...flags, openLoopback: flags.openLoopback && "1" });
  const { catalog, name: defaultModel } = await chooseModel(config.model, config);
  await catalog.resolve(defaultModel);

  await using service = await Service.open({
    ...config,
    cacheDir: join(config.home, "cache"),
    catalog,
    loraCatalog: new LoraCatalog({ home: config.home }),
    upscalers: new UpscalerCatalog({ home: config.home }),
    defaultModel,
    limits: config,
    niceness: engineNiceness,
    log: { level: config.logLevel, stream: process.stderr },
  });

  const url = await listen(service.app, config);
  // Only now: had the port been taken, a key would have been stored that nobody ever saw.
  await provideFirstKey(service.keys, config, url);
  process.stdout.write(`listening on ${url}\n`);

  const { promise: stopped, resolve: stop } = Promise.withResolvers<void>();
  if (interruption.signal.aborted) stop();
  interruption.signal.addEventListener("abort", () => stop());
  await stopped;
  await service.close(config.shutdownSeconds * 1000);
  return exitCodes.success;
}

async function listen(app: FastifyInstance, { host, port }: Config): Promise<string> {
  try {
    await app.listen({ host, port });
  } catch (cause) {
    throw new EaselError("io_failed", `Easel cannot listen on ${host}:${port}: ${listenFault(cause)}.`, { cause });
  }
  const address = app.server.address() as AddressInfo;
  return `http://${host.includes(":") ? `[${host}]` : host}:${address.port}`;
}

function listenFault(error: unknown): string {
  const code = error instanceof Error && "code" in error ? error.code : undefined;
  switch (code) {
    case "EADDRINUSE":
      return "the port is in use; stop the other program or choose another --port";
    case "EACCES":
      return "this port needs more rights; choose a --port above 1023";
    case "EADDRNOTAVAIL":
    case "ENOTFOUND":
      return "this machine has no such address; choose another --host";
    default:
      return error instanceof Error ? error.message : String(error);
  }
}

/** At the first start: stores the key from the configuration, or creates one and shows it inside a command to paste. */
async function provideFirstKey(keys: KeyStore, { apiKey }: Config, url: string): Promise<void> {
  if (!(await keys.isEmpty())) {
    if (apiKey !== undefined && !(await keys.find(apiKey))) {
      process.stderr.write("easel: EASEL_API_KEY is ignored, because this EASEL_HOME already has another key.\n");
    }
    return;
  }
  const { key } = await keys.create("first key", apiKey === undefined ? {} : { key: apiKey });
  if (apiKey !== undefined) return;
  const reachable = url.replace("//0.0.0.0:", "//127.0.0.1:").replace("//[::]:", "//[::1]:");
  process.stdout.write(`Here is your API key, inside a command that draws a picture; it is not shown again:

curl ${reachable}/v1/images/generations \\
  -H "Authorization: Bearer ${key}" \\
  -H "Content-Type: application/json" \\
  -d '{"prompt": "A white cat resting in Rome"}'

`);
}
