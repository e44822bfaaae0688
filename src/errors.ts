/**
 * Every error that Easel raises on purpose, with its code.
 *
 * An error's message is one sentence for a person: what happened and what to do. The engine knows nothing of HTTP or of
 * exit codes: `server/error-response.ts` maps codes to statuses and `cli/main.ts` maps them to exit codes.
 */

/** What each code means; the keys are the complete list of codes. */
export const errorCodes = {
  invalid_request: "A parameter of a request is missing, malformed or out of range.",
  model_not_found: "The model is unknown, or known but not installed.",
  model_invalid: "A model's files are incomplete, damaged, or describe something Easel cannot run.",
  weights_invalid: "A weight file is damaged or lies about its contents.",
  insufficient_memory: "The model needs more memory than this machine can give it.",
  device_unavailable: "The requested device cannot be used on this machine.",
  unauthorized: "The API key is missing, wrong, expired or revoked.",
  forbidden: "The API key is not allowed this model or this route.",
  rate_limit_exceeded: "The API key sends requests too fast, or has too many pictures in hand.",
  insufficient_quota: "The API key's budget is used up.",
  content_policy_violation: "The prompt was refused by the operator's moderation.",
  moderation_unavailable: "The moderation service gave no verdict, so nothing was drawn.",
  not_found: "There is nothing at this address.",
  method_not_allowed: "This address does not take this method.",
  payload_too_large: "The request's body is larger than the configured limit.",
  access_denied: "The Hugging Face Hub does not let this account download the model.",
  download_failed: "A model's download broke off, is damaged, or its server cannot be reached.",
  queue_full: "The generation queue is at its bound.",
  cancelled: "The generation was cancelled before it ended.",
  shutting_down: "The server is about to stop and takes no more work.",
  lost: "The server stopped before the generation ended.",
  engine_crashed: "The engine process ended in the middle of a generation.",
  io_failed: "A file could not be read or written.",
  internal: "A fault in Easel itself.",
} as const;

export type ErrorCode = keyof typeof errorCodes;

export interface EaselErrorOptions {
  /** The request's field that is at fault, by its name on the wire. */
  param?: string | undefined;
  /** When it is worth trying again. */
  retryAfterSeconds?: number | undefined;
  cause?: unknown;
}

/** The base of all errors with a code. */
export class EaselError extends Error {
  override readonly name: string = "EaselError";
  readonly code: ErrorCode;
  readonly param: string | undefined;
  readonly retryAfterSeconds: number | undefined;

  constructor(code: ErrorCode, message: string, options: EaselErrorOptions = {}) {
    super(message, options.cause === undefined ? undefined : { cause: options.cause });
    this.code = code;
    this.param = options.param;
    this.retryAfterSeconds = options.retryAfterSeconds;
  }
}

/** A parameter that cannot be used; `param` is its name on the wire. */
export class InvalidRequestError extends EaselError {
  override readonly name = "InvalidRequestError";
  constructor(param: string, message: string) {
    super("invalid_request", message, { param });
  }
}

/** A model that is unknown or not installed. */
export class ModelNotFoundError extends EaselError {
  override readonly name = "ModelNotFoundError";
  constructor(message: string) {
    super("model_not_found", message, { param: "model" });
  }
}

/** A model folder that is incomplete, or whose configuration Easel cannot honour. */
export class ModelInvalidError extends EaselError {
  override readonly name = "ModelInvalidError";
  constructor(message: string, options: EaselErrorOptions = {}) {
    super("model_invalid", message, options);
  }
}

/** A weight file that is damaged or hostile. */
export class WeightsInvalidError extends EaselError {
  override readonly name = "WeightsInvalidError";
  constructor(message: string, options: EaselErrorOptions = {}) {
    super("weights_invalid", message, options);
  }
}

/** The work was stopped by its owner. */
export class CancelledError extends EaselError {
  override readonly name = "CancelledError";
  constructor(message = "The generation was cancelled.") {
    super("cancelled", message);
  }
}

/** An error as it crosses a process border. */
export interface SerializedError {
  code: ErrorCode;
  message: string;
  param?: string | undefined;
  retryAfterSeconds?: number | undefined;
}

/** `error` as plain data; anything that is not an `EaselError` becomes `internal`. */
export function serializeError(error: unknown): SerializedError {
  if (error instanceof EaselError) {
    const { code, message, param, retryAfterSeconds } = error;
    return { code, message, param, retryAfterSeconds };
  }
  const message = error instanceof Error ? error.message : String(error);
  return { code: "internal", message: `Easel met an unexpected fault: ${firstLine(message)}` };
}

/** The error that `serializeError` described. */
export function deserializeError(error: SerializedError): EaselError {
  return error.code === "cancelled"
    ? new CancelledError(error.message)
    : new EaselError(error.code, error.message, error);
}

function firstLine(text: string): string {
  return text.split("\n", 1)[0] ?? "";
}
