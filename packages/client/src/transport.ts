/** Requests with a key, a time limit and retries that do as the server says. */
import { apiError, type ApiErrorBody, ConnectionError, EaselClientError, TimeoutError } from "./errors.ts";

export interface TransportOptions {
  apiKey?: string | undefined;
  /** The server's address, with or without `/v1`. Default `http://127.0.0.1:8080`. */
  baseURL?: string | undefined;
  /** How often a request is tried again after a 429, a 5xx or a broken connection. Default 2. */
  maxRetries?: number | undefined;
  /** How long an answer may take to begin, per try. Default 10 minutes: pictures take time. */
  timeoutMs?: number | undefined;
  /** Another `fetch`, for tests or proxies. */
  fetch?: typeof fetch | undefined;
}

/** Options of one call. */
export interface CallOptions {
  signal?: AbortSignal | undefined;
  timeoutMs?: number | undefined;
  maxRetries?: number | undefined;
  /** Names the work, so that trying again finds it instead of doing it anew. Every call that draws has one. */
  idempotencyKey?: string | undefined;
}

export interface Call extends CallOptions {
  method: "GET" | "POST" | "DELETE";
  path: string;
  json?: unknown;
  form?: FormData | undefined;
  headers?: Record<string, string> | undefined;
}

const firstDelayMs = 500;
const maxDelayMs = 8000;
/** A server that asks for more patience than this is better asked again by a person. */
const maxRetryAfterMs = 60_000;

export class Transport {
  readonly baseURL: string;
  readonly #apiKey: string | undefined;
  readonly #maxRetries: number;
  readonly #timeoutMs: number;
  readonly #fetch: typeof fetch;

  constructor(options: TransportOptions = {}) {
    this.baseURL = (options.baseURL ?? "http://127.0.0.1:8080").replace(/\/+$/, "").replace(/\/v1$/, "");
    this.#apiKey = options.apiKey;
    this.#maxRetries = options.maxRetries ?? 2;
    this.#timeoutMs = options.timeoutMs ?? 600_000;
    this.#fetch = options.fetch ?? ((input, init) => globalThis.fetch(input, init));
  }

  /**
   * A successful answer whose body is still to come. Throws `ApiError` and its kin, `ConnectionError`, `TimeoutError`, or the
   * signal's reason.
   */
  async stream(call: Call): Promise<Response> {
    return await this.#send(call, async (response) => response);
  }

  /** A successful answer's JSON; an answer that breaks off is asked for again. Throws like `stream`. */
  async json<T>(call: Call): Promise<T> {
    return await this.#send(call, async (response) => {
      const text = await response.text().catch((cause: unknown) => {
        call.signal?.throwIfAborted();
        throw new ConnectionError("The connection broke before the answer was complete.", { cause });
      });
      return parse<T>(text);
    });
  }

  async #send<T>(call: Call, read: (response: Response) => Promise<T>): Promise<T> {
    const tries = 1 + (call.maxRetries ?? this.#maxRetries);
    for (let attempt = 1; ; attempt++) {
      let outcome = await this.#try(call);
      if (outcome instanceof Response && outcome.ok) {
        try {
          return await read(outcome);
        } catch (error) {
          if (!(error instanceof ConnectionError)) throw error;
          outcome = error;
        }
      }
      const delayMs = attempt < tries ? retryDelayMs(outcome, attempt) : undefined;
      if (delayMs === undefined) throw outcome instanceof Response ? await readError(outcome) : outcome;
      if (outcome instanceof Response) await outcome.body?.cancel();
      await pause(delayMs, call.signal);
    }
  }

  async #try(call: Call): Promise<Response | ConnectionError | TimeoutError> {
    call.signal?.throwIfAborted();
    const timeoutMs = call.timeoutMs ?? this.#timeoutMs;
    const timeout = new AbortController();
    const timer = setTimeout(() => timeout.abort(), timeoutMs);
    const signal = call.signal === undefined ? timeout.signal : AbortSignal.any([call.signal, timeout.signal]);
    try {
      return await this.#fetch(`${this.baseURL}/v1${call.path}`, {
        method: call.method,
        headers: this.#headers(call),
        body: call.form ?? (call.json === undefined ? null : JSON.stringify(call.json)),
        signal,
      });
    } catch (cause) {
      if (call.signal?.aborted === true) throw call.signal.reason;
      if (timeout.signal.aborted) return new TimeoutError(`No answer within ${timeoutMs / 1000} s.`, { cause });
      return new ConnectionError(`No connection to ${this.baseURL}: is the server running?`, { cause });
    } finally {
      clearTimeout(timer);
    }
  }

  #headers(call: Call): Record<string, string> {
    return {
      ...(this.#apiKey === undefined ? {} : { authorization: `Bearer ${this.#apiKey}` }),
      ...(call.json === undefined ? {} : { "content-type": "application/json" }),
      ...(call.idempotencyKey === undefined ? {} : { "idempotency-key": call.idempotencyKey }),
      ...call.headers,
    };
  }
}

/** Trying again must not draw again: every call that draws carries a key of its own unless it was given one. */
export function withIdempotencyKey(call: Call): Call {
  return { ...call, idempotencyKey: call.idempotencyKey ?? randomKey() };
}

/** Not `randomUUID`, which browsers have on secure pages alone; a server in the house is reached over plain HTTP. */
function randomKey(): string {
  return Array.from(crypto.getRandomValues(new Uint8Array(16)), (byte) => byte.toString(16).padStart(2, "0")).join("");
}

/** How long to wait before trying again; undefined when that would be in vain. */
function retryDelayMs(outcome: Response | Error, attempt: number): number | undefined {
  if (outcome instanceof TimeoutError) return undefined;
  if (outcome instanceof Response) {
    const { status, headers } = outcome;
    if (headers.get("x-should-retry") === "false") return undefined;
    if (status !== 429 && status < 500) return undefined;
    const asked = parseRetryAfterMs(headers.get("retry-after"));
    if (asked !== undefined) return asked > maxRetryAfterMs ? undefined : asked;
  }
  const backoffMs = Math.min(firstDelayMs * 2 ** (attempt - 1), maxDelayMs);
  // Jitter, so that many clients that were refused together do not come back together.
  return backoffMs * (0.75 + 0.25 * Math.random());
}

/** Seconds or a date, as HTTP has it (RFC 9110, 10.2.3). */
function parseRetryAfterMs(value: string | null): number | undefined {
  if (value === null || value.trim() === "") return undefined;
  const ms = Number.isNaN(Number(value)) ? Date.parse(value) - Date.now() : Number(value) * 1000;
  return Number.isNaN(ms) ? undefined : Math.max(0, ms);
}

function parse<T>(text: string): T {
  try {
    return JSON.parse(text) as T;
  } catch (cause) {
    throw new EaselClientError("The answer is no JSON: is an Easel server at this address?", { cause });
  }
}

async function readError(response: Response): Promise<Error> {
  const requestId = response.headers.get("x-request-id") ?? undefined;
  const text = await response.text().catch(() => "");
  let body: ApiErrorBody | undefined;
  try {
    body = (JSON.parse(text) as { error?: ApiErrorBody }).error;
  } catch {
    // Not from Easel: a proxy's page, perhaps.
  }
  const message = body?.message ?? `The server answered ${response.status} ${response.statusText}.`;
  return apiError({ ...body, message }, response.status, requestId);
}

/** Waits; throws the signal's reason when it aborts. */
export function pause(ms: number, signal: AbortSignal | undefined): Promise<void> {
  signal?.throwIfAborted();
  return new Promise((resolve, reject) => {
    const stop = () => {
      clearTimeout(timer);
      reject(signal?.reason);
    };
    const timer = setTimeout(() => {
      signal?.removeEventListener("abort", stop);
      resolve();
    }, ms);
    signal?.addEventListener("abort", stop, { once: true });
  });
}
