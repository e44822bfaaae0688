/** Text → ids, in the stages of Hugging Face's `tokenizers`: added tokens, normalizer, pre-tokenizer, model, template. */
import { InvalidRequestError, ModelInvalidError } from "../errors.ts";
import { AddedTokens, type AddedToken } from "./added-tokens.ts";
import type { Normalizer } from "./normalizers.ts";
import type { PreTokenizer } from "./pre-tokenizers.ts";
import type { PostProcessorJson } from "./tokenizer-files.ts";

/** Cuts one piece into ids. */
export interface TokenModel {
  readonly vocab: ReadonlyMap<string, number>;
  encode(piece: string): number[];
}

export interface Encoding {
  /** [maxLength]: the special tokens and the text's, then padding. */
  ids: Int32Array;
  /** Those before the padding. */
  tokens: number;
  /** The text had more tokens than fit; its end is not in `ids`. */
  truncated: boolean;
}

export interface TextTokenizerParts {
  addedTokens: readonly AddedToken[];
  normalize: Normalizer;
  preTokenize: PreTokenizer;
  model: TokenModel;
  /** The special ids around every text. */
  template: { before: readonly number[]; after: readonly number[] };
  padId: number;
}

export class TextTokenizer {
  readonly #parts: TextTokenizerParts;
  readonly #addedTokens: AddedTokens;

  constructor(parts: TextTokenizerParts) {
    this.#parts = parts;
    this.#addedTokens = new AddedTokens(parts.addedTokens, parts.normalize);
  }

  /** @throws InvalidRequestError when `maxLength` leaves no room for the special tokens. */
  encode(text: string, maxLength: number): Encoding {
    const { template, padId } = this.#parts;
    const room = maxLength - template.before.length - template.after.length;
    if (room < 0)
      throw new InvalidRequestError("max_sequence_length", `A sequence of ${maxLength} tokens is too short.`);
    // One more than fits is enough to know that there are more.
    const textIds = this.#textIds(text, room + 1);
    const truncated = textIds.length > room;
    if (truncated) textIds.length = room;
    const ids = new Int32Array(maxLength).fill(padId);
    const unpadded = [...template.before, ...textIds, ...template.after];
    ids.set(unpadded);
    return { ids, tokens: unpadded.length, truncated };
  }

  /** The ids of a text, or its first ones: no more than `limit`. */
  #textIds(text: string, limit: number): number[] {
    const ids: number[] = [];
    const known = new Map<string, readonly number[]>();
    for (const part of this.#addedTokens.split(text.toWellFormed())) {
      if (typeof part === "number") {
        ids.push(part);
        continue;
      }
      for (const piece of this.#parts.preTokenize(part)) {
        let pieceIds = known.get(piece);
        if (pieceIds === undefined) known.set(piece, (pieceIds = this.#parts.model.encode(piece)));
        for (const id of pieceIds) ids.push(id);
        if (ids.length >= limit) return ids.slice(0, limit);
      }
    }
    return ids.slice(0, limit);
  }
}

/** @throws ModelInvalidError when the template names a token that it does not define. */
export function templateOf(json: PostProcessorJson | null, label: string): TextTokenizerParts["template"] {
  if (json === null) return { before: [], after: [] };
  if (json.type === "RobertaProcessing") return { before: [json.cls[1]], after: [json.sep[1]] };
  const before: number[] = [];
  const after: number[] = [];
  let side = before;
  for (const piece of json.single) {
    if ("Sequence" in piece) {
      side = after;
      continue;
    }
    const token = json.special_tokens[piece.SpecialToken.id];
    if (token === undefined) {
      throw new ModelInvalidError(`The model's file ${label} has no ids for "${piece.SpecialToken.id}".`);
    }
    side.push(...token.ids);
  }
  return { before, after };
}
