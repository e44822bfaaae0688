/** Byte-pair encoding of one word: neighbours are joined in the order in which the merges were learnt. */
import { ModelInvalidError } from "../errors.ts";
import type { TokenModel } from "./text-tokenizer.ts";
import type { BpeModelJson } from "./tokenizer-files.ts";

interface Merge {
  rank: number;
  id: number;
}

/** So that a pair of ids fits a number exactly. */
const maxId = 2 ** 26;

/** A merge's rank and its place in the word share a number: rank · 2^32 + place. */
const places = 2 ** 32;

export class BytePairEncoding implements TokenModel {
  readonly vocab: ReadonlyMap<string, number>;
  readonly #merges = new Map<number, Merge>();
  /** Above every id, so that a pair of ids makes one number: left · pairBase + right. */
  #pairBase = 1;
  readonly #unknownId: number | undefined;
  readonly #suffix: string;

  /** @throws ModelInvalidError when a merge or the unknown token is not in the vocabulary. */
  constructor(json: Omit<BpeModelJson, "type">, label: string) {
    this.vocab = new Map(Object.entries(json.vocab));
    this.#suffix = json.end_of_word_suffix ?? "";
    for (const id of this.vocab.values()) this.#pairBase = Math.max(this.#pairBase, id + 1);
    if (this.#pairBase > maxId) throw new ModelInvalidError(`The model's file ${label} has ids that are too large.`);
    const idOf = (token: string): number => {
      const id = this.vocab.get(token);
      if (id === undefined) {
        throw new ModelInvalidError(
          `The model's file ${label} needs the token "${token}", which its vocabulary lacks.`,
        );
      }
      return id;
    };
    if (typeof json.unk_token === "string") this.#unknownId = idOf(json.unk_token);
    for (const [rank, merge] of json.merges.entries()) {
      const [left, right, ...rest] = typeof merge === "string" ? merge.split(" ") : merge;
      if (left === undefined || right === undefined || rest.length > 0) {
        throw new ModelInvalidError(`The model's file ${label} has a malformed merge: ${JSON.stringify(merge)}.`);
      }
      this.#merges.set(this.#pair(idOf(left), idOf(right)), { rank, id: idOf(left + right) });
    }
  }

  encode(word: string): number[] {
    const ids = this.#characters(word);
    // A doubly linked list over the places of `ids`; joined places keep their left one.
    const next = Int32Array.from(ids, (_, i) => i + 1);
    const previous = Int32Array.from(ids, (_, i) => i - 1);
    const queue = new MinQueue();
    const offer = (place: number): void => {
      const right = next[place];
      if (right === undefined || right >= ids.length) return;
      const merge = this.#merges.get(this.#pair(ids[place]!, ids[right]!));
      if (merge !== undefined) queue.push(merge.rank * places + place);
    };
    for (let place = 0; place + 1 < ids.length; place++) offer(place);

    for (let key = queue.pop(); key !== undefined; key = queue.pop()) {
      const place = key % places;
      const right = next[place]!;
      if (ids[place] === joined || right >= ids.length) continue;
      const merge = this.#merges.get(this.#pair(ids[place]!, ids[right]!));
      // The pair that was offered may have been joined with another neighbour since.
      if (merge === undefined || merge.rank !== (key - place) / places) continue;
      ids[place] = merge.id;
      ids[right] = joined;
      const after = next[right]!;
      next[place] = after;
      if (after < ids.length) previous[after] = place;
      if (previous[place]! >= 0) offer(previous[place]!);
      offer(place);
    }
    return ids.filter((id) => id !== joined);
  }

  #characters(word: string): number[] {
    const characters = Array.from(word);
    return characters.flatMap((character, i) => {
      const spelling = i === characters.length - 1 ? character + this.#suffix : character;
      return this.vocab.get(spelling) ?? this.#unknownId ?? [];
    });
  }

  #pair(left: number, right: number): number {
    return left * this.#pairBase + right;
  }
}

const joined = -1;

/** A binary heap of numbers, the least first. */
class MinQueue {
  readonly #heap: number[] = [];

  push(key: number): void {
    const heap = this.#heap;
    let i = heap.length;
    heap.push(key);
    while (i > 0) {
      const parent = (i - 1) >> 1;
      if (heap[parent]! <= key) break;
      heap[i] = heap[parent]!;
      i = parent;
    }
    heap[i] = key;
  }

  pop(): number | undefined {
    const heap = this.#heap;
    const least = heap[0];
    const last = heap.pop();
    if (heap.length === 0 || last === undefined) return least;
    let i = 0;
    for (let child = 1; child < heap.length; child = 2 * i + 1) {
      if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
      if (heap[child]! >= last) break;
      heap[i] = heap[child]!;
      i = child;
    }
    heap[i] = last;
    return least;
  }
}
