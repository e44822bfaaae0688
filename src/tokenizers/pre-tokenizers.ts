/** How a normalised text is cut into the pieces that a model tokenizes one by one, as in Hugging Face's `tokenizers`. */
import { compilePattern } from "./normalizers.ts";
import type { PreTokenizerJson } from "./tokenizer-files.ts";

export type PreTokenizer = (text: string) => string[];

/** @throws ModelInvalidError when a pattern cannot be read. */
export function compilePreTokenizer(json: PreTokenizerJson | null, label: string): PreTokenizer {
  if (json === null) return (piece) => [piece];
  switch (json.type) {
    case "Sequence": {
      const steps = json.pretokenizers.map((step) => compilePreTokenizer(step, label));
      return (piece) => steps.reduce((pieces, step) => pieces.flatMap((part) => step(part)), [piece]);
    }
    case "WhitespaceSplit":
      return (piece) => piece.split(/\p{White_Space}+/u).filter((part) => part !== "");
    case "Metaspace":
      return metaspace(json);
    case "Split": {
      const regex = compilePattern(json.pattern, label);
      if (json.behavior === "Removed") {
        return json.invert
          ? (piece) => piece.match(regex) ?? []
          : (piece) => piece.split(regex).filter((part) => part !== "");
      }
      return (piece) => isolate(piece, regex);
    }
    case "ByteLevel":
      return byteLevel(json);
  }
}

/** Spaces become a visible mark that opens the word after it. */
function metaspace(json: PreTokenizerJson & { type: "Metaspace" }): PreTokenizer {
  const mark = json.replacement;
  const prepends = (json.prepend_scheme ?? (json.add_prefix_space === false ? "never" : "always")) === "always";
  const words = new RegExp(`${RegExp.escape(mark)}?[^${RegExp.escape(mark)}]+|${RegExp.escape(mark)}`, "gu");
  return (piece) => {
    let marked = piece.replaceAll(" ", mark);
    if (prepends && !marked.startsWith(mark)) marked = mark + marked;
    return json.split === false ? [marked] : (marked.match(words) ?? []);
  };
}

const gpt2Words =
  /'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\p{White_Space}\p{L}\p{N}]+|\p{White_Space}+(?!\P{White_Space})|\p{White_Space}+/gu;

/** Every byte of UTF-8 becomes one visible character. */
function byteLevel(json: PreTokenizerJson & { type: "ByteLevel" }): PreTokenizer {
  return (piece) => {
    const text = json.add_prefix_space && !piece.startsWith(" ") ? ` ${piece}` : piece;
    const words = json.use_regex === false ? [text] : (text.match(gpt2Words) ?? []);
    return words.map(toByteCharacters);
  };
}

/** OpenAI's table: printable Latin-1 characters stand for themselves, the other bytes for characters from U+0100 on. */
const byteCharacters: readonly string[] = (() => {
  let next = 256;
  return Array.from({ length: 256 }, (_, byte) => {
    const printable = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
    return String.fromCharCode(printable ? byte : next++);
  });
})();

function toByteCharacters(word: string): string {
  let characters = "";
  for (const byte of Buffer.from(word, "utf8")) characters += byteCharacters[byte]!;
  return characters;
}

/** Matches and what lies between them, each a piece of its own. */
function isolate(piece: string, regex: RegExp): string[] {
  const parts: string[] = [];
  let end = 0;
  for (const match of piece.matchAll(regex)) {
    parts.push(piece.slice(end, match.index), match[0]);
    end = match.index + match[0].length;
  }
  parts.push(piece.slice(end));
  return parts.filter((part) => part !== "");
}
