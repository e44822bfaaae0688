/** Trying again after faults that pass by themselves: stalls, resets, overloaded servers. */
import { setTimeout as sleep } from "node:timers/promises";
import { EaselError } from "../../errors.ts";

/** A fault that may pass; its message is a clause for the middle of a sentence. */
export class PassingFault extends Error {
  override readonly name = "PassingFault";
  readonly retryAfterSeconds: number | undefined;
  /** Whether something arrived before the fault: then the patience starts anew. */
  readonly progressed: boolean;

  constructor(
    message: string,
    options: { retryAfterSeconds?: number | undefined; progressed?: boolean; cause?: unknown } = {},
  ) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.retryAfterSeconds = options.retryAfterSeconds;
    this.progressed = options.progressed ?? false;
  }
}

export interface RetryOptions {
  signal: AbortSignal;
  /** The first pause; each further one is twice as long, up to `maxPauseMs`. */
  pauseMs: number;
  /** Told before each pause, in a sentence. */
  onRetry: (sentence: string) => void;
  /** Attempts in a row without a byte of progress. Default 5. */
  maxAttempts?: number;
}

const maxPauseMs = 30_000;
/** A server that asks for a longer pause is left alone, and the person told. */
const maxRetryAfterSeconds = 120;

/**
 * The result of `attempt`, repeated while it throws a `PassingFault`. `what` begins the sentences: a file's name, a
 * server's. Throws `download_failed` when patience ends, and at once whatever else `attempt` throws.
 */
export async function withRetries<T>(
  what: string,
  { signal, pauseMs, onRetry, maxAttempts = 5 }: RetryOptions,
  attempt: () => Promise<T>,
): Promise<T> {
  for (let failures = 1; ; failures++) {
    signal.throwIfAborted();
    try {
      return await attempt();
    } catch (error) {
      signal.throwIfAborted();
      if (!(error instanceof PassingFault)) throw error;
      const { message, retryAfterSeconds, progressed, cause } = error;
      if (progressed) failures = 1;
      if (retryAfterSeconds !== undefined && retryAfterSeconds > maxRetryAfterSeconds) {
        throw new EaselError(
          "download_failed",
          `${what}: ${message}, and the server asks to come back in ${duration(retryAfterSeconds)}; ` +
            `run the same command again then.`,
          { retryAfterSeconds, cause },
        );
      }
      if (failures >= maxAttempts) {
        throw new EaselError(
          "download_failed",
          `${what}: ${message}, ${maxAttempts} times in a row; ` +
            `run the same command again, which goes on where this one stopped.`,
          { cause },
        );
      }
      const backoffMs = Math.min(maxPauseMs, pauseMs * 2 ** (failures - 1));
      const waitMs = retryAfterSeconds === undefined ? backoffMs : retryAfterSeconds * 1000;
      onRetry(`${what}: ${message}; trying again in ${duration(Math.max(1, Math.ceil(waitMs / 1000)))}.`);
      await sleep(waitMs, undefined, { signal }).catch(() => signal.throwIfAborted());
    }
  }
}

function duration(seconds: number): string {
  if (seconds < 120) return `${seconds} s`;
  return seconds < 7200 ? `${Math.ceil(seconds / 60)} minutes` : `${Math.ceil(seconds / 3600)} hours`;
}
