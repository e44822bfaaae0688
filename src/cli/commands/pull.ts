/** `easel pull`: brings a model's weights, or registers those that are already here, and converts them if that is asked for. */
import http from "node:http";
import { resolve } from "node:path";
import { type Config, loadConfig } from "../../config.ts";
import { planAssembly } from "../../engine/assembled-model.ts";
import { builtInModel, ModelCatalog } from "../../engine/model-catalog.ts";
import { knownModels } from "../../engine/known-models.ts";
import { ModelStore, type StoredModel } from "../../engine/model-store.ts";
import { CancelledError, EaselError, InvalidRequestError } from "../../errors.ts";
import type { Precision } from "../../pipelines/precision.ts";
import { formatBytes } from "../../weights/hub/byte-size.ts";
import { downloadModel, type DownloadResult } from "../../weights/hub/download-model.ts";
import { downloadTokenizers } from "../../weights/hub/download-tokenizers.ts";
import { findCachedSnapshot } from "../../weights/hub/hub-cache.ts";
import { HubClient } from "../../weights/hub/hub-client.ts";
import { readHubToken } from "../../weights/hub/hub-token.ts";
import { networkPlaces } from "../../weights/model-files.ts";
import { modelBytes } from "../../weights/model-folder.ts";
import { ByteProgress, formatDuration } from "../byte-progress.ts";
import { exitCodes } from "../exit-codes.ts";
import { Interruption } from "../interruption.ts";
import { convertPulled, parsePullPrecision } from "../pull-conversion.ts";
import { parsePullTarget, type PullTarget, proposedName } from "../pull-target.ts";
import { installSmallFile, type SmallFileKind, smallFileKind } from "../small-files.ts";

interface PullFlags {
  revision?: string;
  precision?: string;
  name?: string;
  /** For single files. */
  vae?: string;
  clip?: string;
  t5?: string;
  tokenizers?: string;
  json?: true;
}

interface PullReport extends Omit<DownloadResult, "outcome" | "repository" | "commit" | "license"> {
  name: string;
  outcome: DownloadResult["outcome"] | "registered" | "assembled";
  repository: string | undefined;
  commit: string | undefined;
  /** What it was converted to, and what that takes on the disk. */
  conversion?: { precision: Precision; sizeBytes: number };
}

/** Where tokenizers come from that no model here has: of the known models the one that is no gated download. */
const tokenizerRepository = "black-forest-labs/FLUX.1-schnell";

/** Pulls, tells, and returns the exit code. Throws `EaselError`. */
export async function pull(text: string, flags: PullFlags): Promise<number> {
  const startedMs = performance.now();
  const precision = parsePullPrecision(flags.precision);
  const config = loadConfig(process.env);
  const kind = smallFileKind(text);
  if (kind !== undefined) return await pullSmallFile(text, kind, flags, config.home);
  const target = parsePullTarget(text, config.hubEndpoint);
  requireFlags(target, flags);
  const store = new ModelStore(config.home);
  const name = await chooseName(target, flags.name, store);

  // HTTP_PROXY, HTTPS_PROXY and NO_PROXY, as other programs that download honour them.
  http.setGlobalProxyFromEnv?.();
  using interruption = new Interruption();
  using progress = new ByteProgress();
  const work: PullWork = { config, store, name, flags, progress, signal: interruption.signal };
  try {
    const result = await pullTarget(target, work);
    progress[Symbol.dispose]();
    if (precision !== undefined) {
      const sizeBytes = await convertPulled(result, precision, { ...config, signal: interruption.signal });
      result.conversion = { precision, sizeBytes };
    }
    const seconds = (performance.now() - startedMs) / 1000;
    process.stdout.write(
      flags.json ? `${JSON.stringify(toJson(result, seconds))}\n` : `${toSentence(result, seconds)}\n`,
    );
    return exitCodes.success;
  } catch (error) {
    if (!(error instanceof CancelledError) || !interruption.signal.aborted) throw error;
    progress[Symbol.dispose]();
    const { receivedBytes, totalBytes } = progress;
    const kept =
      receivedBytes > 0 && receivedBytes < totalBytes && target.kind === "repository"
        ? `${formatBytes(receivedBytes)} of ${formatBytes(totalBytes)} are kept; `
        : "";
    const again = `go on with: easel pull ${text}${precision === undefined ? "" : ` --precision ${precision}`}`;
    process.stderr.write(`easel: interrupted; ${kept}${again}\n`);
    return interruption.exitCode;
  }
}

/** An upscaler or a LoRA. Throws `invalid_request` for a flag that says nothing about such a file. */
async function pullSmallFile(text: string, kind: SmallFileKind, flags: PullFlags, home: string): Promise<number> {
  const idle = Object.keys(flags).find((flag) => flag !== "json");
  if (idle !== undefined) {
    throw new InvalidRequestError(
      `--${idle}`,
      `--${idle} says nothing about ${kind === "LoRA" ? "a LoRA" : "an upscaler"}.`,
    );
  }
  const { name, file, sizeBytes } = await installSmallFile(text, kind, home);
  const use =
    kind === "LoRA"
      ? `draw with: easel generate "a cat" --lora ${name}`
      : `enlarge with: easel upscale cat.png --model ${name}`;
  process.stdout.write(
    flags.json
      ? `${JSON.stringify({ name, outcome: "installed", file, bytes: sizeBytes })}\n`
      : `${name} is installed (${formatBytes(sizeBytes)}); ${use}\n`,
  );
  return exitCodes.success;
}

interface PullWork {
  config: Config;
  store: ModelStore;
  name: string;
  flags: PullFlags;
  progress: ByteProgress;
  signal: AbortSignal;
}

async function pullTarget(target: PullTarget, work: PullWork): Promise<PullReport> {
  switch (target.kind) {
    case "folder":
      return await registerFolder(work.store, work.name, target.folder);
    case "file":
      return await assembleFiles(target.file, work);
    case "repository":
      return work.config.hubOffline
        ? await findOffline(work, target.repository)
        : await download(work, target.repository);
  }
}

async function openHub({ config, progress, signal }: PullWork): Promise<HubClient> {
  return new HubClient({
    endpoint: config.hubEndpoint,
    token: await readHubToken({ token: config.hubToken, tokenPath: config.hubTokenPath }),
    stallTimeoutMs: config.hubTimeoutSeconds * 1000,
    onNotice: (sentence) => progress.notice(sentence),
    signal,
  });
}

async function download(work: PullWork, repository: string): Promise<PullReport> {
  const { config, store, name, flags, progress } = work;
  const { license, ...result } = await downloadModel({
    client: await openHub(work),
    repository,
    revision: flags.revision ?? "main",
    folder: store.folderOf(name),
    cache: config.hubCache,
    onProgress: progress.onEvent,
  });
  const { outcome, commit, folder } = result;
  if (outcome === "in the cache") {
    await store.register(name, { folder, repository, commit, ...(license === undefined ? {} : { license }) });
  } else await store.unregister(name);
  return { name, ...result };
}

/** Throws `invalid_request` for a flag that says nothing about such a target. */
function requireFlags({ kind }: PullTarget, { revision, name, vae, clip, t5, tokenizers }: PullFlags): void {
  const ofFiles = { "--vae": vae, "--clip": clip, "--t5": t5, "--tokenizers": tokenizers };
  const idle = kind === "file" ? undefined : Object.entries(ofFiles).find(([, value]) => value !== undefined)?.[0];
  if (idle !== undefined) {
    throw new InvalidRequestError(idle, `${idle} belongs to a single file, such as flux1-dev.safetensors.`);
  }
  if (name !== undefined && kind === "repository") {
    throw new InvalidRequestError("--name", "--name is for folders and files; a model of the Hub keeps its name.");
  }
  if (name !== undefined && !/^[A-Za-z0-9][\w.-]{0,99}$/.test(name)) {
    throw new InvalidRequestError("--name", "--name must be letters, digits, dots, dashes and underscores.");
  }
  if (revision !== undefined && kind !== "repository") {
    throw new InvalidRequestError("--revision", "--revision is for models of the Hub.");
  }
}

/**
 * The model's own name, or owner--name when that means another model here.
 * Throws `invalid_request` for a folder, a file or a known model whose name is taken by files that were not pulled.
 */
async function chooseName(target: PullTarget, wish: string | undefined, store: ModelStore): Promise<string> {
  const name = wish ?? proposedName(target);
  const installed = (await store.list()).find((model) => model.name === name);
  const known = knownModels.find((model) => model.name === name);
  if (target.kind === "repository") {
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
  if (name === builtInModel || (installed !== undefined && !isSame(installed, target))) {
    throw new InvalidRequestError(
      "model",
      `There is another model called ${name}; choose another name with --name, or remove that model first with: easel rm ${name}`,
    );
  }
  return name;
}

/** Whether an installed model is the folder or the file that is to be registered. */
function isSame({ folder, origin }: StoredModel, target: Exclude<PullTarget, { kind: "repository" }>): boolean {
  if (target.kind === "folder") return folder === target.folder;
  if (origin !== "assembled") return false;
  try {
    return networkPlaces(folder).transformer === target.file;
  } catch {
    return true; // a damaged registration is there to be replaced
  }
}

/** A model out of single files, which stay where they are. */
async function assembleFiles(file: string, work: PullWork): Promise<PullReport> {
  const { config, store, name, flags, progress, signal } = work;
  const { home, hubCache } = config;
  const given = { vae: flags.vae, text_encoder: flags.clip, text_encoder_2: flags.t5 };
  const places = Object.entries(given).flatMap(([component, path]) => {
    return path === undefined ? [] : [[component, resolve(path)]];
  });
  const tokenizers = flags.tokenizers === undefined ? undefined : resolve(flags.tokenizers);
  const companions = await new ModelCatalog({ home, hubCache }).list();
  const assembly = planAssembly({ file, given: Object.fromEntries(places), tokenizers }, companions);
  if (assembly.notice !== undefined) progress.notice(assembly.notice);

  const bringTokenizers = async (folder: string) => {
    if (config.hubOffline) {
      throw new EaselError(
        "download_failed",
        "No model here has CLIP's and T5's tokenizers, which single files do not hold, and HF_HUB_OFFLINE is set; " +
          "unset it to fetch them, or give with --tokenizers a folder that has tokenizer/ and tokenizer_2/.",
      );
    }
    progress.notice(`The tokenizers, which single files do not hold, come from ${tokenizerRepository}.`);
    const client = await openHub(work);
    await downloadTokenizers({ client, repository: tokenizerRepository, folder, onProgress: progress.onEvent });
  };
  await store.assemble(name, assembly, bringTokenizers, signal);
  const folder = store.folderOf(name);
  const sizeBytes = await modelBytes(folder);
  return { name, outcome: "assembled", repository: undefined, commit: undefined, folder, sizeBytes };
}

async function registerFolder(store: ModelStore, name: string, folder: string): Promise<PullReport> {
  await store.register(name, { folder });
  const sizeBytes = await modelBytes(folder);
  return { name, outcome: "registered", repository: undefined, commit: undefined, folder, sizeBytes };
}

/** Without the network: the model as it is installed, or as the cache has it. Throws `download_failed`. */
async function findOffline(
  { config, store, name, flags: { revision } }: PullWork,
  repository: string,
): Promise<PullReport> {
  const installed = (await store.list()).find((model) => model.name === name);
  if (installed && revision === undefined) {
    const sizeBytes = await modelBytes(installed.folder);
    return { name, outcome: "already here", repository, commit: undefined, folder: installed.folder, sizeBytes };
  }
  const snapshot = await findCachedSnapshot(config.hubCache, repository, revision);
  if (!snapshot) {
    throw new EaselError(
      "download_failed",
      `HF_HUB_OFFLINE is set, and ${repository} is neither installed nor whole in the Hugging Face cache; ` +
        `unset it to download.`,
    );
  }
  await store.register(name, { ...snapshot, repository });
  return { name, outcome: "in the cache", repository, ...snapshot, sizeBytes: await modelBytes(snapshot.folder) };
}

function toSentence(report: PullReport, seconds: number): string {
  const { conversion } = report;
  const outcome = outcomeSentence(report, seconds);
  if (conversion === undefined) return outcome;
  const { precision, sizeBytes } = conversion;
  return sizeBytes === 0
    ? `${outcome}\nIn ${precision} it runs as it is; there was nothing to convert.`
    : `${outcome}\nIt is converted to ${precision} (${formatBytes(sizeBytes)}).`;
}

function outcomeSentence({ name, outcome, folder, sizeBytes }: PullReport, seconds: number): string {
  const size = formatBytes(sizeBytes);
  switch (outcome) {
    case "downloaded":
      return `${name} is installed (${size}, ${formatDuration(seconds)}); draw with: easel generate "a cat" --model ${name}`;
    case "already here":
      return `${name} is already installed (${size}).`;
    case "in the cache":
      return `${name} lies whole in the Hugging Face cache and is used from there (${size}); nothing was downloaded.`;
    case "assembled":
      return `${name} is registered; its files stay where they are (${size}). Draw with: easel generate "a cat" --model ${name}`;
    case "registered":
      return `${name} is registered; its files stay in ${folder} (${size}).`;
  }
}

function toJson({ sizeBytes, outcome, conversion, ...rest }: PullReport, seconds: number): object {
  return {
    ...rest,
    outcome: outcome.replaceAll(" ", "_"),
    bytes: sizeBytes,
    ...(conversion && { precision: conversion.precision, converted_bytes: conversion.sizeBytes }),
    seconds: Number(seconds.toFixed(3)),
  };
}
