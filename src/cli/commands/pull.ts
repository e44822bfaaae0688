/** `easel pull`: brings a model's weights, or registers those that are already here. */
import { statSync } from "node:fs";
import http from "node:http";
import { type Config, loadConfig } from "../../config.ts";
import { builtInModel } from "../../engine/model-catalog.ts";
import { knownModels } from "../../engine/known-models.ts";
import { ModelStore } from "../../engine/model-store.ts";
import { CancelledError, EaselError, InvalidRequestError } from "../../errors.ts";
import { formatBytes } from "../../weights/hub/byte-size.ts";
import { downloadModel, type DownloadResult } from "../../weights/hub/download-model.ts";
import { findCachedSnapshot } from "../../weights/hub/hub-cache.ts";
import { HubClient } from "../../weights/hub/hub-client.ts";
import { readHubToken } from "../../weights/hub/hub-token.ts";
import { folderBytes } from "../../weights/model-folder.ts";
import { DownloadProgress, formatDuration } from "../download-progress.ts";
import { exitCodes } from "../exit-codes.ts";
import { installUpscaler, isFile } from "../upscaler-files.ts";
import { Interruption } from "../interruption.ts";
import { parsePullTarget, type PullTarget, proposedName } from "../pull-target.ts";

interface PullFlags {
  revision?: string;
  precision?: string;
  json?: true;
}

interface PullReport extends Omit<DownloadResult, "outcome" | "repository" | "commit" | "license"> {
  name: string;
  outcome: DownloadResult["outcome"] | "registered";
  repository: string | undefined;
  commit: string | undefined;
}

/** Pulls, tells, and returns the exit code. Throws `EaselError`. */
export async function pull(text: string, { revision, precision, json }: PullFlags): Promise<number> {
  const startedMs = performance.now();
  requirePrecision(precision);
  const config = loadConfig(process.env);
  if (isFile(text)) {
    const { name, file } = await installUpscaler(text, config.home);
    const sizeBytes = statSync(file).size;
    process.stdout.write(
      json
        ? `${JSON.stringify({ name, outcome: "installed", file, bytes: sizeBytes })}\n`
        : `${name} is installed (${formatBytes(sizeBytes)}); enlarge with: easel upscale cat.png --model ${name}\n`,
    );
    return exitCodes.success;
  }
  const target = parsePullTarget(text, config.hubEndpoint);
  const store = new ModelStore(config.home);
  const name = await chooseName(target, store);

  const report = (result: PullReport) => {
    const seconds = (performance.now() - startedMs) / 1000;
    process.stdout.write(json ? `${JSON.stringify(toJson(result, seconds))}\n` : `${toSentence(result, seconds)}\n`);
    return exitCodes.success;
  };
  if (target.folder !== undefined) return report(await registerFolder(store, name, target.folder));
  if (config.hubOffline) return report(await findOffline(store, name, target.repository, revision, config));

  // HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as other programs that download honour them.
  http.setGlobalProxyFromEnv?.();
  using interruption = new Interruption();
  using progress = new DownloadProgress();
  const client = new HubClient({
    endpoint: config.hubEndpoint,
    token: await readHubToken({ token: config.hubToken, tokenPath: config.hubTokenPath }),
    stallTimeoutMs: config.hubTimeoutSeconds * 1000,
    onNotice: (sentence) => progress.notice(sentence),
    signal: interruption.signal,
  });
  try {
    const { license, ...result } = await downloadModel({
      client,
      repository: target.repository,
      revision: revision ?? "main",
      folder: store.folderOf(name),
      cache: config.hubCache,
      onProgress: progress.onEvent,
    });
    const { outcome, repository, commit, folder } = result;
    if (outcome === "in the cache") {
      await store.register(name, { folder, repository, commit, ...(license === undefined ? {} : { license }) });
    } else await store.unregister(name);
    progress[Symbol.dispose]();
    return report({ name, ...result });
  } catch (error) {
    if (!(error instanceof CancelledError) || !interruption.signal.aborted) throw error;
    progress[Symbol.dispose]();
    const { receivedBytes, totalBytes } = progress;
    const kept =
      receivedBytes > 0
        ? `${formatBytes(receivedBytes)} of ${formatBytes(totalBytes)} are kept; go on with: easel pull ${text}`
        : `go on with: easel pull ${text}`;
    process.stderr.write(`easel: interrupted; ${kept}\n`);
    return interruption.exitCode;
  }
}

/** The files are kept as published; formats that must be made from them are refused until something makes them. */
function requirePrecision(precision: string | undefined): void {
  if (precision === undefined || precision === "fp32") return;
  throw new InvalidRequestError(
    "--precision",
    `--precision must be fp32, not "${precision}": the files are kept as published for now; ` +
      `choose another precision when drawing, as in: easel generate --precision int8`,
  );
}

/**
 * The model's own name, or owner--name when that means another model here.
 * Throws `invalid_request` for a folder or a known model whose name is taken by files that were not pulled.
 */
async function chooseName(target: PullTarget, store: ModelStore): Promise<string> {
  const name = proposedName(target);
  const installed = (await store.list()).find((model) => model.name === name);
  const known = knownModels.find((model) => model.name === name);
  if (target.repository !== undefined) {
    const taken =
      name === builtInModel ||
      (known !== undefined && known.repository !== target.repository) ||
      (installed !== undefined && installed.repository !== target.repository);
    if (known?.repository === target.repository && taken) {
      throw new InvalidRequestError(
        "model",
        `There is a model called ${name} already, in ${installed?.folder}; to pull it anew, remove it first with: easel rm ${name}`,
      );
    }
    return taken ? target.repository.replace("/", "--") : name;
  }
  if (name === builtInModel || (installed !== undefined && installed.folder !== target.folder)) {
    throw new InvalidRequestError(
      "model",
      `There is another model called ${name}; rename the folder, or remove that model first with: easel rm ${name}`,
    );
  }
  return name;
}

async function registerFolder(store: ModelStore, name: string, folder: string): Promise<PullReport> {
  await store.register(name, { folder });
  const sizeBytes = await folderBytes(folder);
  return { name, outcome: "registered", repository: undefined, commit: undefined, folder, sizeBytes };
}

/** Without the network: the model as it is installed, or as the cache has it. Throws `download_failed`. */
async function findOffline(
  store: ModelStore,
  name: string,
  repository: string,
  revision: string | undefined,
  { hubCache }: Config,
): Promise<PullReport> {
  const installed = (await store.list()).find((model) => model.name === name);
  if (installed && revision === undefined) {
    const sizeBytes = await folderBytes(installed.folder);
    return { name, outcome: "already here", repository, commit: undefined, folder: installed.folder, sizeBytes };
  }
  const snapshot = await findCachedSnapshot(hubCache, repository, revision);
  if (!snapshot) {
    throw new EaselError(
      "download_failed",
      `HF_HUB_OFFLINE is set, and ${repository} is neither installed nor whole in the Hugging Face cache; ` +
        `unset it to download.`,
    );
  }
  await store.register(name, { ...snapshot, repository });
  return { name, outcome: "in the cache", repository, ...snapshot, sizeBytes: await folderBytes(snapshot.folder) };
}

function toSentence({ name, outcome, folder, sizeBytes }: PullReport, seconds: number): string {
  const size = formatBytes(sizeBytes);
  switch (outcome) {
    case "downloaded":
      return `${name} is installed (${size}, ${formatDuration(seconds)}); draw with: easel generate "a cat" --model ${name}`;
    case "already here":
      return `${name} is already installed (${size}).`;
    case "in the cache":
      return `${name} lies whole in the Hugging Face cache and is used from there (${size}); nothing was downloaded.`;
    case "registered":
      return `${name} is registered; its files stay in ${folder} (${size}).`;
  }
}

function toJson({ sizeBytes, outcome, ...rest }: PullReport, seconds: number): object {
  return { ...rest, outcome: outcome.replaceAll(" ", "_"), bytes: sizeBytes, seconds: Number(seconds.toFixed(3)) };
}
