/**
 * Tokens that are found in the text itself, before the model sees it: "</s>", "<|endoftext|>", "<extra_id_0>"… Those
 * marked `normalized` are looked for in the normalised text, the others in the text as it is.
 */
import type { Normalizer } from "./normalizers.ts";
import type { AddedTokenJson, NamedTokens, TokenizerConfig, TokenizerFolder, TokenizerJson } from "./tokenizer-files.ts";

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

/** A stretch of normalised text between added tokens; `first` when the whole text begins with it. */
export interface TextPart {
  text: string;
  first: boolean;
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
  *split(text: string): Iterable<number | TextPart> {
    let first = true;
    for (const part of this.#inText.split(text)) {
      if (typeof part === "number") yield part;
      else {
        for (const inner of this.#inNormalized.split(this.#normalize(part))) {
          yield typeof inner === "number" ? inner : { text: inner, first };
          first = false;
        }
      }
      first = false;
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
      if (token.singleWord && (/[\p{L}\p{M}\p{N}\p{Pc}]$/u.test(text.slice(0, from)) || startsWithWord.test(text.slice(to)))) {
        continue;
      }
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
const startsWithWord = /^[\p{L}\p{M}\p{N}\p{Pc}]/u;

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
  const named = Object.assign({}, defaults, defined(config), decoder ? {} : defined(folder.namedTokens())) as NamedTokens;
  const listed: AddedTokenJson[] = decoder
    ? Object.entries(decoder).map(([id, token]) => Object.assign({}, token, { id: Number(id) }))
    : (json?.added_tokens ?? []);

  const tokens = new Map<string, AddedToken>();
  let nextId = Math.max(-1, ...listed.map((token) => token.id ?? -1), ...vocabBounds(vocab)) + 1;
  const add = (token: AddedTokenJson): void => {
    if (tokens.has(token.content)) return;
    tokens.set(token.content, {
      content: token.content,
      id: vocab.get(token.content) ?? token.id ?? nextId++,
      singleWord: token.single_word,
      lstrip: token.lstrip,
      rstrip: token.rstrip,
      normalized: token.normalized ?? !token.special,
    });
  };
  for (const token of listed) add(token);
  for (const name of namedTokenFields) {
    const token = named[name];
    if (typeof token === "string") {
      add({ content: token, single_word: false, lstrip: false, rstrip: false, normalized: false, special: true });
    } else if (token) add(Object.assign({}, token, { special: true }));
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

function vocabBounds(vocab: ReadonlyMap<string, number>): number[] {
  let greatest = -1;
  for (const id of vocab.values()) greatest = Math.max(greatest, id);
  return [greatest];
}
