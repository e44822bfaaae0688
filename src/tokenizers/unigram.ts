/** SentencePiece's unigram model: of all ways to cut a piece into known tokens, the likeliest (Kudo 2018), by Viterbi. */
import { ModelInvalidError } from "../errors.ts";
import type { TokenModel } from "./text-tokenizer.ts";
import type { UnigramModelJson } from "./tokenizer-files.ts";

/** What an unknown character costs more than the least likely token. */
const unknownPenalty = 10;

export class Unigram implements TokenModel {
  readonly vocab: ReadonlyMap<string, number>;
  readonly #scores: Float64Array;
  readonly #unknownId: number;
  readonly #unknownScore: number;
  /** A trie over UTF-16 units: node · 2^16 + unit → node. Node 0 is the root. */
  readonly #children = new Map<number, number>();
  /** The token that ends at a node, or −1. */
  readonly #tokenAt: number[] = [-1];

  /** @throws ModelInvalidError when the unknown token is not in the vocabulary. */
  constructor(json: Omit<UnigramModelJson, "type">, label: string) {
    if (json.unk_id === null || json.unk_id >= json.vocab.length) {
      throw new ModelInvalidError(`The model's file ${label} has a vocabulary without an unknown token.`);
    }
    this.vocab = new Map(json.vocab.map(([token], id) => [token, id]));
    this.#scores = Float64Array.from(json.vocab, ([, score]) => score);
    this.#unknownId = json.unk_id;
    this.#unknownScore = this.#scores.reduce((least, score) => Math.min(least, score), Infinity) - unknownPenalty;
    for (const [token, id] of this.vocab) this.#insert(token, id);
  }

  encode(piece: string): number[] {
    // The best way to reach each position: its score, where its last token starts, and that token.
    const score = new Float64Array(piece.length + 1);
    const start = new Int32Array(piece.length + 1).fill(-1);
    const token = new Int32Array(piece.length + 1);
    const reach = (from: number, to: number, id: number, tokenScore: number): void => {
      const candidate = score[from]! + tokenScore;
      if (start[to] !== -1 && candidate <= score[to]!) return;
      score[to] = candidate;
      start[to] = from;
      token[to] = id;
    };

    for (let from = 0; from < piece.length;) {
      const afterCharacter = from + (piece.codePointAt(from)! > 0xffff ? 2 : 1);
      let characterIsKnown = false;
      let node: number | undefined = 0;
      for (let to = from; to < piece.length;) {
        node = this.#children.get(node * 2 ** 16 + piece.charCodeAt(to));
        if (node === undefined) break;
        to++;
        const id = this.#tokenAt[node]!;
        if (id === -1) continue;
        reach(from, to, id, this.#scores[id]!);
        if (to === afterCharacter) characterIsKnown = true;
      }
      if (!characterIsKnown) reach(from, afterCharacter, this.#unknownId, this.#unknownScore);
      from = afterCharacter;
    }

    const ids: number[] = [];
    for (let to = piece.length; to > 0; to = start[to]!) {
      // Unknown characters in a row are one unknown token.
      if (token[to] === this.#unknownId && ids.at(-1) === this.#unknownId) continue;
      ids.push(token[to]!);
    }
    return ids.toReversed();
  }

  #insert(token: string, id: number): void {
    let node = 0;
    for (let i = 0; i < token.length; i++) {
      const key = node * 2 ** 16 + token.charCodeAt(i);
      let child = this.#children.get(key);
      if (child === undefined) {
        child = this.#tokenAt.push(-1) - 1;
        this.#children.set(key, child);
      }
      node = child;
    }
    if (node !== 0) this.#tokenAt[node] = id;
  }
}
