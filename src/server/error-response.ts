/** Errors as HTTP answers: which status each code has, and the shape that OpenAI's clients read. */
import type { FastifyReply } from "fastify";
import { hasZodFastifySchemaValidationErrors } from "fastify-type-provider-zod";
import { invalidRequest } from "../engine/generation-request.ts";
import { EaselError, type ErrorCode, serializeError } from "../errors.ts";

/**
 * Code → status. Clients retry a 5xx at once, so whatever would fail again in the same way is a 4xx.
 * `docs/errors.md` says the same; a test keeps the two in step.
 */
export const statusOf: Readonly<Record<ErrorCode, number>> = {
  invalid_request: 400,
  model_not_found: 404,
  model_invalid: 400,
  weights_invalid: 400,
  insufficient_memory: 400,
  device_unavailable: 400,
  unauthorized: 401,
  forbidden: 403,
  rate_limit_exceeded: 429,
  insufficient_quota: 429,
  content_policy_violation: 400,
  moderation_unavailable: 503,
  not_found: 404,
  method_not_allowed: 405,
  payload_too_large: 413,
  access_denied: 403,
  download_failed: 502,
  queue_full: 503,
  cancelled: 503,
  shutting_down: 503,
  lost: 503,
  engine_crashed: 500,
  io_failed: 500,
  internal: 500,
};

/** Refusals of a healthy server: under load they come by the hundred, and each answer has its line in the log anyway. */
const noFaults: ReadonlySet<ErrorCode> = new Set(["queue_full", "cancelled", "shutting_down", "lost"]);

export interface ErrorBody {
  error: { message: string; type: string; param: string | null; code: string | null };
}

/** Answers with `error`: status, reason phrase, headers and the error object. */
export function sendError(reply: FastifyReply, error: unknown): FastifyReply {
  const easelError = toEaselError(error);
  const status = statusOf[easelError.code];
  if (status >= 500 && !noFaults.has(easelError.code)) reply.log.error({ err: error }, easelError.message);
  if (status === 401) reply.header("www-authenticate", "Bearer");
  // The clients' retries cannot mend a spent budget.
  if (easelError.code === "insufficient_quota") reply.header("x-should-retry", "false");
  if (easelError.retryAfterSeconds !== undefined) reply.header("retry-after", easelError.retryAfterSeconds);
  reply.raw.statusMessage = reasonPhrase(easelError.message);
  return reply.code(status).send(errorBody(easelError));
}

export function errorBody({ code, message, param }: EaselError): ErrorBody {
  return { error: { message, type: typeOf(code), param: param ?? null, code } };
}

/** A message as a reason phrase, which some clients show instead of the body: one short line of printable ASCII. */
export function reasonPhrase(message: string): string {
  const line = message.replaceAll(/[^\x20-\x7e]+/g, "?");
  return line.length > 120 ? `${line.slice(0, 117)}...` : line;
}

/** Whatever was thrown, as an error with a code: validation, Fastify's own refusals, faults. */
function toEaselError(error: unknown): EaselError {
  if (error instanceof EaselError) return error;
  if (hasZodFastifySchemaValidationErrors(error)) {
    return invalidRequest(
      error.validation.map(({ instancePath, message }) => ({
        path: instancePath.split("/").filter((part) => part !== ""),
        message: message ?? "is invalid",
      })),
    );
  }
  if (isFastifyError(error) && error.statusCode < 500) return refusal(error);
  const { code, message } = serializeError(error);
  return new EaselError(code, message, { cause: error });
}

interface FastifyRefusal extends Error {
  code?: string;
  statusCode: number;
}

function isFastifyError(error: unknown): error is FastifyRefusal {
  return error instanceof Error && "statusCode" in error && typeof error.statusCode === "number";
}

function refusal(error: FastifyRefusal): EaselError {
  switch (error.code) {
    case "FST_ERR_CTP_BODY_TOO_LARGE":
      return new EaselError("payload_too_large", "The request body is too large.");
    case "FST_ERR_CTP_INVALID_MEDIA_TYPE":
    case "FST_ERR_CTP_EMPTY_JSON_BODY":
      return new EaselError(
        "invalid_request",
        "Send the parameters as a JSON object, with the header Content-Type: application/json.",
      );
    default:
      return new EaselError("invalid_request", `The request cannot be read: ${error.message.split("\n", 1)[0]}`);
  }
}

function typeOf(code: ErrorCode): string {
  const status = statusOf[code];
  if (status === 401) return "authentication_error";
  if (status === 403) return "permission_error";
  if (status === 429) return code === "insufficient_quota" ? code : "rate_limit_error";
  return status >= 500 ? "server_error" : "invalid_request_error";
}
