/** What the Hub's refusals mean, and what to do about each. */
import { EaselError } from "../../errors.ts";
import type { HubToken } from "./hub-token.ts";
import { PassingFault } from "./retries.ts";

export interface HubRequestContext {
  endpoint: string;
  repository: string;
  revision: string;
  token: HubToken | undefined;
}

/**
 * The error for an answer that is not a success: `access_denied`, `model_not_found`, `download_failed`, or a
 * `PassingFault` for what may pass. Statuses alone are ambiguous (the Hub answers 401 for a gated, a private and a missing
 * repository), hence `x-error-code` (https://huggingface.co/docs/hub/api).
 */
export function refusal(
  { response, elsewhere }: { response: Response; elsewhere: boolean },
  context: HubRequestContext,
): EaselError | PassingFault {
  const { status, headers } = response;
  const { endpoint, repository, revision, token } = context;
  const host = new URL(endpoint).host;
  if (status === 429 || status >= 500) {
    const retryAfterSeconds = parseRetryAfter(headers.get("retry-after"));
    const problem =
      status === 429 ? `too many requests (429)${token ? "" : "; HF_TOKEN raises the limit"}` : `${status}`;
    return new PassingFault(status === 429 ? problem : `the server fails with ${problem}`, { retryAfterSeconds });
  }
  const code = headers.get("x-error-code") ?? "";
  // A content server's signed address expires after a while: asking the Hub again gives a fresh one.
  if ((elsewhere && code === "") || status === 408)
    return new PassingFault(`the content server refuses with ${status}`);

  const page = `${endpoint}/${repository}`;
  if (code === "GatedRepo" || (status === 403 && token)) {
    return new EaselError("access_denied", token && status !== 401 ? notGranted(page, token) : gated(repository, page));
  }
  if (code === "RevisionNotFound") {
    return new EaselError(
      "model_not_found",
      `${repository} has no revision ${JSON.stringify(revision)}; see ${page}/tree/main for its branches, tags and commits.`,
    );
  }
  if (code === "EntryNotFound") {
    return new EaselError(
      "download_failed",
      `A file of ${repository} is listed at ${host} but missing; report it at ${page}.`,
    );
  }
  if (status === 401 && token && code !== "RepoNotFound") {
    return new EaselError(
      "access_denied",
      `${host} does not accept the token of ${token.source}; create one at ${endpoint}/settings/tokens, ` +
        `export HF_TOKEN=... and run the same command again.`,
    );
  }
  if (status === 401 || status === 404) {
    return new EaselError(
      "model_not_found",
      `There is no model ${repository} at ${host}, or it is private; check the spelling` +
        (token ? `, and that the token of ${token.source} may read it.` : `, or export HF_TOKEN=... if it is yours.`),
    );
  }
  return new EaselError(
    "download_failed",
    `${host} refuses the request for ${repository} with status ${status}; check HF_ENDPOINT and the network's proxy.`,
  );
}

function gated(repository: string, page: string): string {
  const { origin } = new URL(page);
  return (
    `${repository} is a gated download: accept its licence at ${page}, create a token with read access at ` +
    `${origin}/settings/tokens, export HF_TOKEN=hf_..., and run the same command again.`
  );
}

function notGranted(page: string, { source }: HubToken): string {
  return (
    `The account of the token in ${source} has no access yet: accept the licence at ${page} with that account ` +
    `(a fine-grained token also needs the permission to read gated repositories), and run the same command again.`
  );
}

/** Seconds from a `Retry-After` header: a number or a date. */
function parseRetryAfter(value: string | null): number | undefined {
  if (value === null) return undefined;
  if (/^\d{1,9}$/.test(value)) return Number(value);
  const date = Date.parse(value);
  return Number.isNaN(date) ? undefined : Math.max(0, Math.ceil((date - Date.now()) / 1000));
}
