/**
 * The Hugging Face Hub's HTTP protocol, as far as reading models needs it (https://huggingface.co/docs/hub/api):
 * a revision's commit, the files of a commit, a file's bytes. Nothing in an answer is trusted before it is checked.
 */
import { z } from "zod";
import { EaselError } from "../../errors.ts";
import { connectionFault, httpGet, StallGuard } from "./http-get.ts";
import type { HubToken } from "./hub-token.ts";
import { refusal } from "./refusals.ts";
import { PassingFault, withRetries } from "./retries.ts";

export interface HubClientOptions {
  /** Default https://huggingface.co; a mirror may have a path. */
  endpoint?: string | undefined;
  token?: HubToken | undefined;
  /** How long nothing may arrive before a connection is given up. Default 30,000. */
  stallTimeoutMs?: number | undefined;
  /** The pause before the first retry. Default 1000. */
  retryPauseMs?: number | undefined;
  /** Told about retries, in sentences. */
  onNotice?: ((sentence: string) => void) | undefined;
  signal?: AbortSignal | undefined;
}

export interface HubRevision {
  /** The full hash of the commit that the revision means now. */
  commit: string;
  license: string | undefined;
}

export interface HubFile {
  /** Relative, with slashes; it cannot leave the folder it is put in. */
  path: string;
  sizeBytes: number;
  /** Large files (LFS) have their own SHA-256, small ones git's blob hash. */
  hash: { algorithm: "sha256" | "git-sha1"; hex: string };
}

const revisionSchema = z.object({
  sha: z.string().regex(/^[0-9a-f]{40}$/),
  cardData: z.object({ license: z.unknown(), license_name: z.unknown() }).partial().nullish().catch(undefined),
});

const sizeSchema = z.number().int().min(0).max(Number.MAX_SAFE_INTEGER);
const treeSchema = z.array(
  z.object({
    type: z.string(),
    path: z.string(),
    oid: z.string(),
    size: sizeSchema.default(0),
    lfs: z.object({ oid: z.string().regex(/^[0-9a-f]{64}$/), size: sizeSchema }).nullish(),
  }),
);

/** Metadata of a model is some kilobytes; more is a mistake or an attack. */
const maxAnswerBytes = 16 * 1024 * 1024;
const maxPages = 100;

export class HubClient {
  readonly endpoint: string;
  readonly token: HubToken | undefined;
  readonly signal: AbortSignal;
  readonly retryPauseMs: number;
  readonly onNotice: (sentence: string) => void;
  readonly #stallTimeoutMs: number;

  constructor(options: HubClientOptions = {}) {
    this.endpoint = (options.endpoint ?? "https://huggingface.co").replace(/\/+$/, "");
    this.token = options.token;
    this.signal = options.signal ?? new AbortController().signal;
    this.retryPauseMs = options.retryPauseMs ?? 1000;
    this.onNotice = options.onNotice ?? (() => {});
    this.#stallTimeoutMs = options.stallTimeoutMs ?? 30_000;
  }

  /** Throws `model_not_found`, `access_denied`, `download_failed`. */
  async revision(repository: string, revision: string): Promise<HubRevision> {
    const path = `/api/models/${repository}/revision/${encodeURIComponent(revision)}`;
    const { value } = await this.#json(this.endpoint + path, { repository, revision });
    const { sha, cardData } = this.#check(revisionSchema, value);
    const { license, license_name: name } = cardData ?? {};
    return { commit: sha, license: [name, license].find((text) => typeof text === "string") };
  }

  /**
   * Every file of a commit. Throws as `revision` does, and `download_failed` when a name could lead out of the folder
   * that the files are put into.
   */
  async files(repository: string, commit: string): Promise<HubFile[]> {
    const files: HubFile[] = [];
    let url: string | undefined = `${this.endpoint}/api/models/${repository}/tree/${commit}?recursive=true`;
    for (let page = 0; url !== undefined && page < maxPages; page++) {
      const { value, next } = await this.#json(url, { repository, revision: commit });
      for (const entry of this.#check(treeSchema, value)) {
        if (isHostile(entry.path)) {
          throw new EaselError(
            "download_failed",
            `The list of files of ${repository} has an impossible name, ${JSON.stringify(entry.path.slice(0, 100))}; ` +
              `nothing was downloaded, and this model should not be trusted.`,
          );
        }
        if (entry.type !== "file") continue;
        const { lfs } = entry;
        files.push({
          path: entry.path,
          sizeBytes: lfs?.size ?? entry.size,
          hash: lfs ? { algorithm: "sha256", hex: lfs.oid } : { algorithm: "git-sha1", hex: entry.oid },
        });
      }
      url = next;
    }
    return files;
  }

  /**
   * Hands the bytes of a file from `offset` on to `sink`, in order; `begin` tells where they really start (0 when the
   * server does not resume). Throws `PassingFault` when the stream breaks off or ends early, else as `revision` does.
   */
  async read(
    { repository, commit, path }: { repository: string; commit: string; path: string },
    sink: { offset: number; begin(offset: number): Promise<void>; write(chunk: Uint8Array): Promise<void> },
    signal: AbortSignal,
  ): Promise<void> {
    using guard = new StallGuard(this.#stallTimeoutMs, signal);
    const url = `${this.endpoint}/${repository}/resolve/${commit}/${path.split("/").map(encodeURIComponent).join("/")}`;
    const { offset } = sink;
    const headers: Record<string, string> = offset > 0 ? { range: `bytes=${offset}-` } : {};
    const result = await httpGet(url, { headers, token: this.token?.value, guard });
    const { response } = result;
    if (response.status === 416 || (response.status === 206 && !resumesAt(response, offset))) {
      await response.body?.cancel();
      await sink.begin(0);
      throw new PassingFault("the server does not resume there, so it starts anew", { progressed: offset > 0 });
    }
    if (!response.ok || !response.body) {
      await response.body?.cancel();
      throw refusal(result, { endpoint: this.endpoint, repository, revision: commit, token: this.token });
    }
    await sink.begin(response.status === 206 ? offset : 0);

    const chunks = response.body.getReader();
    let progressed = false;
    try {
      for (;;) {
        const { done, value } = await chunks.read().catch((error: unknown) => {
          throw connectionFault(error, guard, progressed);
        });
        if (done) return;
        guard.touch();
        await sink.write(value);
        progressed = true;
      }
    } finally {
      await chunks.cancel().catch(() => {});
    }
  }

  async #json(
    url: string,
    about: { repository: string; revision: string },
  ): Promise<{ value: unknown; next?: string }> {
    const { signal, retryPauseMs: pauseMs, onNotice: onRetry, endpoint, token } = this;
    const retry = { signal, pauseMs, onRetry, maxAttempts: 3 }; // a person waits for the very first answer
    return await withRetries(new URL(endpoint).host, retry, async () => {
      using guard = new StallGuard(this.#stallTimeoutMs, signal);
      const result = await httpGet(url, { token: token?.value, guard });
      const { response } = result;
      if (!response.ok) {
        await response.body?.cancel();
        throw refusal(result, { endpoint, token, ...about });
      }
      const text = await readText(response, guard);
      let value: unknown;
      try {
        value = JSON.parse(text);
      } catch (cause) {
        throw this.#nonsense(cause);
      }
      const next = this.#nextPage(response.headers.get("link"), url);
      return next === undefined ? { value } : { value, next };
    });
  }

  /** The address in a `Link: <…>; rel="next"` header (RFC 8288), on the same server: a mirror may pass the Hub's own on. */
  #nextPage(link: string | null, from: string): string | undefined {
    const target = /<([^>]+)>\s*;[^,]*\brel="?next"?/.exec(link ?? "")?.[1];
    if (target === undefined) return undefined;
    const url = URL.parse(target, from);
    if (!url) throw this.#nonsense(undefined);
    return new URL(url.pathname + url.search, from).href;
  }

  #check<T>(schema: z.ZodType<T>, value: unknown): T {
    const parsed = schema.safeParse(value);
    if (!parsed.success) throw this.#nonsense(parsed.error);
    return parsed.data;
  }

  #nonsense(cause: unknown): EaselError {
    const { host } = new URL(this.endpoint);
    const message = `${host} does not answer as a Hugging Face Hub does; check HF_ENDPOINT and the network's proxy.`;
    return new EaselError("download_failed", message, { cause });
  }
}

async function readText(response: Response, guard: StallGuard): Promise<string> {
  const decoder = new TextDecoder();
  let text = "";
  try {
    for await (const chunk of response.body ?? []) {
      guard.touch();
      text += decoder.decode(chunk, { stream: true });
      if (text.length > maxAnswerBytes) throw new EaselError("download_failed", "The server's answer is too long.");
    }
  } catch (error) {
    throw error instanceof EaselError ? error : connectionFault(error, guard);
  }
  return text;
}

function resumesAt(response: Response, offset: number): boolean {
  return new RegExp(`^bytes ${offset}-`).test(response.headers.get("content-range") ?? "");
}

/** Whether a path could lead out of its folder, on any operating system. */
function isHostile(path: string): boolean {
  const parts = path.split("/");
  const hasControl = Array.from(path).some((character) => character < " ");
  return hasControl || /[\\]|^[a-z]:/i.test(path) || parts.some((part) => ["", ".", ".."].includes(part));
}
