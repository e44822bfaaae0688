/** What must not be drawn: nothing, what has a word of a list in it, or what an OpenAI-compatible endpoint flags. */
import { readFileSync } from "node:fs";
import { z } from "zod";
import { EaselError } from "../errors.ts";

/** Throws `content_policy_violation` for a prompt that is refused, `moderation_unavailable` when that cannot be known. */
export type Moderator = (prompt: string) => Promise<void>;

export interface ModerationOptions {
  moderationWords?: string | undefined;
  moderationUrl?: string | undefined;
  moderationKey?: string | undefined;
  moderationModel?: string | undefined;
}

const timeoutMs = 10_000;
const verdict = z.object({
  results: z.array(z.object({ flagged: z.boolean(), categories: z.record(z.string(), z.unknown()).nullish() })).min(1),
});

/** The moderator of the settings; undefined when moderation is off. Throws `io_failed` when the list cannot be read. */
export function createModerator(options: ModerationOptions): Moderator | undefined {
  const { moderationWords: path, moderationUrl: url } = options;
  const moderators: Moderator[] = [];
  if (path !== undefined) moderators.push(wordListModerator(readWordList(path)));
  if (url !== undefined) moderators.push(endpointModerator({ ...options, url }));
  if (moderators.length === 0) return undefined;
  return async (prompt) => {
    // A variation may do without words; there is nothing to judge then, and endpoints refuse it.
    if (prompt.trim() === "") return;
    for (const moderate of moderators) await moderate(prompt);
  };
}

/**
 * Refuses prompts that have one of the words or phrases in them, whole, whatever their case, spacing and compatibility forms.
 */
export function wordListModerator(words: readonly string[]): Moderator {
  const alternatives = words.map((word) =>
    normalize(word)
      .split(" ")
      .map((part) => part.replaceAll(/[\\^$.*+?()[\]{}|/-]/g, String.raw`\$&`))
      .join(String.raw`[^\p{L}\p{N}]+`),
  );
  if (alternatives.length === 0) return async () => {};
  const pattern = new RegExp(String.raw`(?<![\p{L}\p{N}])(?:${alternatives.join("|")})(?![\p{L}\p{N}])`, "u");
  return async (prompt) => {
    if (pattern.test(normalize(prompt))) throw violation("It has a word or phrase in it that is not allowed here.");
  };
}

function endpointModerator({
  url,
  moderationKey: key,
  moderationModel: model,
}: ModerationOptions & { url: string }): Moderator {
  return async (prompt) => {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "content-type": "application/json", ...(key === undefined ? {} : { authorization: `Bearer ${key}` }) },
      body: JSON.stringify({ input: prompt, ...(model === undefined ? {} : { model }) }),
      signal: AbortSignal.timeout(timeoutMs),
      redirect: "error",
    })
      .then(async (response) => {
        if (!response.ok) throw new Error(`it answered with status ${response.status}`);
        return verdict.parse(await response.json());
      })
      .catch((cause: unknown) => {
        throw new EaselError("moderation_unavailable", "The moderation service gave no verdict; try again later.", {
          cause,
          retryAfterSeconds: 10,
        });
      });
    const flagged = answer.results.find((result) => result.flagged);
    if (!flagged) return;
    const categories = Object.keys(flagged.categories ?? {}).filter((name) => flagged.categories?.[name] === true);
    throw violation(categories.length === 0 ? "" : `It was flagged as ${categories.join(", ")}.`);
  };
}

/** One a line; empty lines and those that begin with # do not count. */
function readWordList(path: string): string[] {
  try {
    return readFileSync(path, "utf8")
      .split("\n")
      .map((line) => line.trim())
      .filter((line) => line !== "" && !line.startsWith("#"));
  } catch (cause) {
    throw new EaselError("io_failed", `The word list ${path} (EASEL_MODERATION_WORDS) cannot be read.`, { cause });
  }
}

function normalize(text: string): string {
  return text.normalize("NFKC").toLowerCase().replaceAll(/\s+/g, " ").trim();
}

function violation(why: string): EaselError {
  return new EaselError("content_policy_violation", `The prompt was refused by moderation. ${why}`.trim(), {
    param: "prompt",
  });
}
