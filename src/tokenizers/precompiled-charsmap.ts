/**
 * SentencePiece's precompiled character map: a double-array trie (Darts-clone) from UTF-8 strings to their replacements.
 * It holds a model's own normalisation, nmt_nfkc or any other. Follows Hugging Face's `spm_precompiled` in what it does to
 * combined characters, oddities included: they decide the tokens that a model was trained with.
 */
import { ModelInvalidError } from "../errors.ts";

/** Grapheme clusters of this many UTF-8 bytes and more are mapped character by character only. */
const longCluster = 6;

const encoder = new TextEncoder();

export class PrecompiledCharsmap {
  readonly #units: Uint32Array;
  /** Replacements in UTF-8, each ended by a 0. */
  readonly #replacements: Uint8Array;
  readonly #known = new Map<string, string | undefined>();
  readonly #graphemes = new Intl.Segmenter("en", { granularity: "grapheme" });

  /** @throws ModelInvalidError when the map's sizes do not fit. */
  constructor(bytes: Uint8Array, label: string) {
    const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    const trieBytes = bytes.length < 4 ? 0 : view.getUint32(0, true);
    if (trieBytes === 0 || trieBytes % 4 !== 0 || 4 + trieBytes > bytes.length) {
      throw new ModelInvalidError(`The model's file ${label} has a damaged precompiled_charsmap.`);
    }
    this.#units = Uint32Array.from({ length: trieBytes / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
    this.#replacements = bytes.subarray(4 + trieBytes);
  }

  normalize(text: string): string {
    let normalized = "";
    for (const cluster of this.#clusters(text)) {
      const whole = this.#replacement(cluster);
      if (whole !== undefined) normalized += whole;
      else for (const character of cluster) normalized += this.#replacement(character) ?? character;
    }
    return normalized;
  }

  /** Grapheme clusters, or their characters where the cluster is too long to be in the map. */
  *#clusters(text: string): Iterable<string> {
    // In ASCII only \r\n is a cluster of several characters, and segmenting is slow.
    // oxlint-disable-next-line no-control-regex
    if (/^[\x00-\x7f]*$/.test(text)) return yield* text.match(/\r\n|[^]/g) ?? [];
    for (const { segment } of this.#graphemes.segment(text)) {
      if (segment.length === 1 || Buffer.byteLength(segment) < longCluster) yield segment;
      else yield* segment;
    }
  }

  #replacement(chunk: string): string | undefined {
    const known = this.#known.get(chunk);
    if (known !== undefined || this.#known.has(chunk)) return known;
    const replacement = this.#lookUp(encoder.encode(chunk));
    // Bounded, for a server that sees every script.
    if (this.#known.size > 10_000) this.#known.clear();
    this.#known.set(chunk, replacement);
    return replacement;
  }

  /** The replacement of the shortest prefix that has one. */
  #lookUp(key: Uint8Array): string | undefined {
    const units = this.#units;
    let at = offsetOf(units[0]!);
    for (const byte of key) {
      if (byte === 0) return undefined;
      at ^= byte;
      const unit = units[at] ?? 0;
      if (labelOf(unit) !== byte) return undefined;
      at ^= offsetOf(unit);
      if (hasLeaf(unit)) return this.#replacementAt((units[at] ?? 0) & 0x7fffffff);
    }
    return undefined;
  }

  #replacementAt(start: number): string {
    const end = this.#replacements.indexOf(0, start);
    return new TextDecoder().decode(this.#replacements.subarray(start, end === -1 ? undefined : end));
  }
}

function hasLeaf(unit: number): boolean {
  return (unit & 0x100) !== 0;
}

/** Leaves carry the top bit, so that none is taken for a byte. */
function labelOf(unit: number): number {
  return (unit & 0x800000ff) >>> 0;
}

function offsetOf(unit: number): number {
  return (unit >>> 10) << ((unit & 0x200) >>> 6);
}
