/** What can go wrong, as classes: by the answer's status, or because there was no answer. */

/** The base of all errors of this client. */
export class EaselClientError extends Error {
  override readonly name: string = "EaselClientError";
}

/** There was no answer: no connection, or it broke. `cause` has the reason. */
export class ConnectionError extends EaselClientError {
  override readonly name = "ConnectionError";
}

/** No answer came within the time that was allowed. */
export class TimeoutError extends EaselClientError {
  override readonly name = "TimeoutError";
}

/** The error object of an answer, as OpenAI's API shapes it. */
export interface ApiErrorBody {
  message: string;
  type?: string | undefined;
  param?: string | null | undefined;
  code?: string | null | undefined;
}

/** The server answered with an error. */
export class ApiError extends EaselClientError {
  override readonly name: string = "ApiError";
  /** HTTP status; undefined when the error came in the middle of a stream. */
  readonly status: number | undefined;
  /** For programs; see the server's list of error codes. */
  readonly code: string | undefined;
  /** The request's field at fault. */
  readonly param: string | undefined;
  readonly type: string | undefined;
  /** Names this request in the server's log. */
  readonly requestId: string | undefined;

  constructor(body: ApiErrorBody, status?: number, requestId?: string) {
    super(body.message);
    this.status = status;
    this.code = body.code ?? undefined;
    this.param = body.param ?? undefined;
    this.type = body.type;
    this.requestId = requestId;
  }
}

/** 400: a field is missing, malformed or out of range. */
export class InvalidRequestError extends ApiError {
  override readonly name = "InvalidRequestError";
}

/** 401: the key is missing or wrong. */
export class AuthenticationError extends ApiError {
  override readonly name = "AuthenticationError";
}

/** 403: the key may not do this. */
export class PermissionError extends ApiError {
  override readonly name = "PermissionError";
}

/** 404: no such model, job or route. */
export class NotFoundError extends ApiError {
  override readonly name = "NotFoundError";
}

/** 429: too many requests, or the budget is spent. */
export class RateLimitError extends ApiError {
  override readonly name = "RateLimitError";
}

/** 5xx: the server is busy or at fault. */
export class ServerError extends ApiError {
  override readonly name = "ServerError";
}

/** The error for an answer's status. */
export function apiError(body: ApiErrorBody, status: number, requestId: string | undefined): ApiError {
  const kind = errorClass(status);
  return new kind(body, status, requestId);
}

function errorClass(status: number): typeof ApiError {
  switch (status) {
    case 401:
      return AuthenticationError;
    case 403:
      return PermissionError;
    case 404:
      return NotFoundError;
    case 429:
      return RateLimitError;
    default:
      return status >= 500 ? ServerError : InvalidRequestError;
  }
}
