/** One GET: redirects followed within limits, the token kept from strangers, silence noticed. */
import { EaselError } from "../../errors.ts";
import { PassingFault } from "./retries.ts";

const maxRedirects = 5;

/** Aborts `signal` after `timeoutMs` without a sign of life, or when `parent` aborts. */
export class StallGuard {
  readonly #silence = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly signal: AbortSignal;

  constructor(timeoutMs: number, parent: AbortSignal) {
    this.signal = AbortSignal.any([parent, this.#silence.signal]);
    this.#timer = setTimeout(() => {
      this.#silence.abort(new PassingFault(`nothing arrived for ${timeoutMs / 1000} s`));
    }, timeoutMs);
  }

  /** Something arrived. */
  touch(): void {
    this.#timer.refresh();
  }

  [Symbol.dispose](): void {
    clearTimeout(this.#timer);
  }
}

export interface GetOptions {
  headers?: Readonly<Record<string, string>>;
  /** Sent to the first address's origin only: a redirect to a content server must not carry it along. */
  token?: string | undefined;
  guard: StallGuard;
}

export interface GetResult {
  response: Response;
  /** Whether the answer comes from another server than the one that was asked. */
  elsewhere: boolean;
}

/** Throws `PassingFault` when no answer comes, `download_failed` for a redirect that must not be followed. */
export async function httpGet(address: string, { headers, token, guard }: GetOptions): Promise<GetResult> {
  const first = new URL(address);
  let url = first;
  let elsewhere = false;
  for (let redirects = 0; redirects <= maxRedirects; redirects++) {
    const response = await fetch(url, {
      // Compressed, a body would neither have the announced length nor be resumable.
      headers: {
        "accept-encoding": "identity",
        "user-agent": "easel",
        ...headers,
        ...(token !== undefined && !elsewhere ? { authorization: `Bearer ${token}` } : {}),
      },
      redirect: "manual",
      signal: guard.signal,
    }).catch((error: unknown) => {
      throw connectionFault(error, guard);
    });
    guard.touch();
    const location = response.headers.get("location");
    if (response.status < 300 || response.status > 399 || location === null) return { response, elsewhere };
    await response.body?.cancel();
    url = redirectTarget(location, url);
    elsewhere ||= url.origin !== first.origin;
  }
  throw new EaselError(
    "download_failed",
    `${first.host} redirects in circles; check HF_ENDPOINT and the network's proxy.`,
  );
}

/** What broke a request or its body, as a `PassingFault`; the caller's own abort stays what it is. */
export function connectionFault(error: unknown, guard: StallGuard, progressed = false): unknown {
  const reason: unknown = guard.signal.aborted ? guard.signal.reason : undefined;
  if (reason instanceof PassingFault) return new PassingFault(reason.message, { progressed, cause: error });
  if (reason !== undefined) return reason;
  const cause = error instanceof Error ? (error.cause ?? error) : error;
  const code = cause instanceof Error && "code" in cause && typeof cause.code === "string" ? cause.code : "";
  const detail = code === "" && cause instanceof Error ? cause.message : code;
  return new PassingFault(connectionProblem(code, detail), { progressed, cause: error });
}

function connectionProblem(code: string, detail: string): string {
  switch (code) {
    case "ENOTFOUND":
    case "EAI_AGAIN":
      return "the server's name cannot be resolved (check the network and HF_ENDPOINT)";
    case "ECONNREFUSED":
      return "the server refuses connections (check HF_ENDPOINT)";
    case "ENETUNREACH":
    case "EHOSTUNREACH":
      return "the server cannot be reached (check the network)";
    default:
      return /CERT|SIGNATURE|SELF_SIGNED/.test(code)
        ? `the server's certificate is not trusted (${code})`
        : `the connection broke off (${detail})`;
  }
}

function redirectTarget(location: string, from: URL): URL {
  const url = URL.parse(location, from.href);
  const allowed = url?.protocol === "https:" || (url?.protocol === "http:" && from.protocol === "http:");
  if (!url || !allowed || url.username !== "") {
    throw new EaselError(
      "download_failed",
      `${from.host} redirects to an address that is not safe to follow; check HF_ENDPOINT and the network's proxy.`,
    );
  }
  return url;
}
