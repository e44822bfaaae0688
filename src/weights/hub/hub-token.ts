/** The token that a person has already given to this machine, by a variable or by `hf auth login`. */
import { readFile } from "node:fs/promises";
import { EaselError } from "../../errors.ts";
import { isMissing } from "./file-fault.ts";

export interface HubToken {
  value: string;
  /** Where it comes from, for messages: the variable's or the file's name. Never the token itself. */
  source: string;
}

/** The token of the environment, else of the token file, else none. Throws `io_failed` or `invalid_request`. */
export async function readHubToken(options: {
  token?: string | undefined;
  tokenPath: string;
}): Promise<HubToken | undefined> {
  if (options.token !== undefined) return { value: options.token, source: "HF_TOKEN" };
  const { tokenPath: source } = options;
  const text = await readFile(source, "utf8").catch((cause: unknown) => {
    if (isMissing(cause)) return "";
    throw new EaselError("io_failed", `The token file ${source} cannot be read; make it readable, or set HF_TOKEN.`, {
      cause,
    });
  });
  const value = text.trim();
  if (value === "") return undefined;
  if (!/^[\x21-\x7e]+$/.test(value)) {
    throw new EaselError("invalid_request", `The token file ${source} holds no token; log in again, or set HF_TOKEN.`);
  }
  return { value, source };
}
