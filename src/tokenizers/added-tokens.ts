/**
 * Tokens that are found in the text itself, before the model sees it: "</s>", "<|endoftext|>", "<extra_id_0>"… Those
 * marked `normalized` are looked for in the normalised text, the others in the text as it is.
 */
import type { Normalizer } from "./normalizers.ts";
import type {
  AddedTokenJson,
  NamedTokens,
  TokenizerConfig,
  TokenizerFolder,
  TokenizerJson,
} from "./tokenizer-files.ts";

export interface AddedToken {
  content: string;
  id: number;
  /** Only where no letter or digit touches it. */
  singleWord: boolean;
  /** Takes the spaces before it, after it. */
  lstrip: boolean;
  rstrip: boolean;
  normalized: boolean;
}

export class AddedTokens {
  readonly #normalize: Normalizer;
  readonly #inText: Finder;
  readonly #inNormalized: Finder;

  constructor(tokens: readonly AddedToken[], normalize: Normalizer) {
    this.#normalize = normalize;
    this.#inText = new Finder(tokens.filter((token) => !token.normalized));
    this.#inNormalized = new Finder(
      tokens
        .filter((token) => token.normalized)
        .map((token) => Object.assign({}, token, { content: normalize(token.content) })),
    );
  }

  /** The text's parts in order: ids of added tokens, and the normalised text between them. */
  *split(text: string): Iterable<number | string> {
    for (const part of this.#inText.split(text)) {
      if (typeof part === "number") yield part;
      else yield* this.#inNormalized.split(this.#normalize(part));
    }
  }
}

/** Finds tokens from left to right, the longest where several begin together. */
class Finder {
  readonly #byContent = new Map<string, AddedToken>();
  readonly #regex: RegExp | undefined;

  constructor(tokens: readonly AddedToken[]) {
    for (const token of tokens) {
      if (token.content !== "" && !this.#byContent.has(token.content)) this.#byContent.set(token.content, token);
    }
    if (this.#byContent.size === 0) return;
    const longestFirst = [...this.#byContent.keys()].sort((a, b) => b.length - a.length);
    this.#regex = new RegExp(longestFirst.map((content) => RegExp.escape(content)).join("|"), "gu");
  }

  *split(text: string): Iterable<number | string> {
    let end = 0;
    for (const match of this.#regex === undefined ? [] : text.matchAll(this.#regex)) {
      const token = this.#byContent.get(match[0])!;
      let from = match.index;
      let to = from + match[0].length;
      // The spaces that an earlier token took may reach into this match.
      if (from < end) continue;
      if (token.singleWord && touchesWord(text, from, to)) continue;
      if (token.lstrip) while (from > end && isSpace.test(text[from - 1]!)) from--;
      if (token.rstrip) while (to < text.length && isSpace.test(text[to]!)) to++;
      if (from > end) yield text.slice(end, from);
      yield token.id;
      end = to;
    }
    if (end < text.length) yield text.slice(end);
  }
}

const isSpace = /^\p{White_Space}$/u;
/** Rust's `\w`. */
const wordCharacter = String.raw`[\p{Alphabetic}\p{M}\p{Nd}\p{Pc}\p{Join_Control}]`;
const endsWithWord = new RegExp(`${wordCharacter}$`, "u");
const startsWithWord = new RegExp(`^${wordCharacter}`, "u");

function touchesWord(text: string, from: number, to: number): boolean {
  // Two UTF-16 units hold any character.
  return endsWithWord.test(text.slice(Math.max(0, from - 2), from)) || startsWithWord.test(text.slice(to, to + 2));
}

export interface SpecialTokens {
  addedTokens: AddedToken[];
  /** The id of "pad", "eos"… */
  idOf(name: "bos" | "eos" | "pad" | "unk"): number | undefined;
  contentOf(name: "bos" | "eos" | "pad" | "unk"): string | undefined;
}

/**
 * The added and the named tokens of a folder, in transformers' order of precedence: `tokenizer_config.json`, or in older
 * folders `special_tokens_map.json` and `tokenizer.json`; then `defaults`, the tokenizer class's own.
 */
export function readSpecialTokens(
  folder: TokenizerFolder,
  json: TokenizerJson | undefined,
  config: TokenizerConfig,
  vocab: ReadonlyMap<string, number>,
  defaults: NamedTokens,
): SpecialTokens {
  const decoder = config.added_tokens_decoder;
  const named = Object.assign(
    {},
    defaults,
    defined(config),
    decoder ? {} : defined(folder.namedTokens()),
  ) as NamedTokens;
  const listed: readonly AddedTokenJson[] = decoder
    ? Object.entries(decoder)
        .sort(([a], [b]) => Number(a) - Number(b))
        .map(([, token]) => token)
    : (json?.added_tokens ?? []);

  const tokens = new Map<string, AddedToken>();
  let nextId = vocab.size;
  const add = (token: AddedTokenJson): void => {
    tokens.set(token.content, {
      content: token.content,
      // The ids that the files give to added tokens do not count: what the vocabulary lacks is numbered from its end.
      id: vocab.get(token.content) ?? tokens.get(token.content)?.id ?? nextId++,
      singleWord: token.single_word,
      lstrip: token.lstrip,
      rstrip: token.rstrip,
      normalized: token.normalized ?? !token.special,
    });
  };
  for (const token of listed) add(token);
  const isListed = new Set(tokens.keys());
  for (const name of namedTokenFields) {
    const value = named[name];
    const token =
      typeof value === "string" ? { content: value, single_word: false, lstrip: false, rstrip: false } : value;
    if (token && !isListed.has(token.content)) add(Object.assign({}, token, { special: true }));
  }

  const contentOf = (name: "bos" | "eos" | "pad" | "unk"): string | undefined => {
    const token = named[`${name}_token`];
    return typeof token === "string" ? token : token?.content;
  };
  return {
    addedTokens: [...tokens.values()],
    contentOf,
    idOf: (name) => tokens.get(contentOf(name) ?? "")?.id,
  };
}

const namedTokenFields = [
  "bos_token",
  "eos_token",
  "unk_token",
  "sep_token",
  "pad_token",
  "cls_token",
  "mask_token",
] as const satisfies readonly (keyof NamedTokens)[];

function defined(tokens: NamedTokens): NamedTokens {
  return Object.fromEntries(
    namedTokenFields.filter((name) => tokens[name] !== undefined).map((name) => [name, tokens[name]]),
  );
}
