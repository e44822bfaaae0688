/** What is done to a text before it is cut into tokens, as Hugging Face's `tokenizers` does it. */
import { ModelInvalidError } from "../errors.ts";
import { PrecompiledCharsmap } from "./precompiled-charsmap.ts";
import type { NormalizerJson } from "./tokenizer-files.ts";

export type Normalizer = (text: string) => string;

/** @throws ModelInvalidError when the normalizer's own data is damaged. */
export function compileNormalizer(json: NormalizerJson | null, label: string): Normalizer {
  if (json === null) return (text) => text;
  switch (json.type) {
    case "Sequence": {
      const steps = json.normalizers.map((step) => compileNormalizer(step, label));
      return (text) => steps.reduce((current, step) => step(current), text);
    }
    case "NFC":
    case "NFD":
    case "NFKC":
    case "NFKD":
      return (text) => text.normalize(json.type);
    case "Lowercase":
      return lowercase;
    case "Strip": {
      const left = json.strip_left ? /^\p{White_Space}+/u : /^(?!)/;
      // Looking behind keeps long runs of spaces inside a text from being tried once per space.
      const right = json.strip_right ? /(?<!\p{White_Space})\p{White_Space}+$/u : /(?!)/;
      return (text) => text.replace(left, "").replace(right, "");
    }
    case "Prepend":
      return (text) => (text === "" ? "" : json.prepend + text);
    case "Replace": {
      const regex = compilePattern(json.pattern, label);
      return (text) => text.replace(regex, () => json.content);
    }
    case "Precompiled": {
      const charsmap = new PrecompiledCharsmap(Buffer.from(json.precompiled_charsmap, "base64"), label);
      return (text) => charsmap.normalize(text);
    }
  }
}

/** Classes of characters as the regular expressions of `tokenizers` have them: by Unicode, as JavaScript's are not. */
const classes: Readonly<Record<string, string>> = {
  "\\s": "\\p{White_Space}",
  "\\S": "\\P{White_Space}",
  "\\d": "\\p{Nd}",
  "\\D": "\\P{Nd}",
};

/** A pattern of `tokenizers` as a global RegExp. */
export function compilePattern(pattern: { String: string } | { Regex: string }, label: string): RegExp {
  if ("String" in pattern) return new RegExp(RegExp.escape(pattern.String), "gu");
  try {
    const source = pattern.Regex.replaceAll(/\\./gu, (escape) => {
      if (/\\[wWbBhH]/.test(escape)) throw new SyntaxError(`${escape} means something else in JavaScript`);
      return classes[escape] ?? escape;
    });
    return new RegExp(source, "gu");
  } catch (cause) {
    throw new ModelInvalidError(`The model's file ${label} has a pattern that Easel cannot read: ${pattern.Regex}`, {
      cause,
    });
  }
}

/** Character by character: JavaScript's own would choose ς for a Σ that ends a word, which Rust's does not. */
function lowercase(text: string): string {
  const lower = text.toLowerCase();
  return text.includes("Σ") ? Array.from(text, (character) => character.toLowerCase()).join("") : lower;
}
