import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ModelInvalidError } from "../errors.ts";
import { ClipTokenizer } from "./clip-tokenizer.ts";

const fixturesDir = join(import.meta.dirname, "../../tests/fixtures");

interface TokenFixtures {
  maxLength: number;
  cases: { text?: string; repeat?: [string, number]; length: number; ids: number[] }[];
  tight: { text: string; maxLength: number; ids: number[] }[];
}

function recorded(model: string): TokenFixtures {
  const all = JSON.parse(readFileSync(join(fixturesDir, "tokens.json"), "utf8")) as Record<
    string,
    Record<string, TokenFixtures>
  >;
  return all[model]!["tokenizer"]!;
}

let scratch: string;
beforeAll(() => {
  scratch = mkdtempSync(join(tmpdir(), "easel-clip-"));
});
afterAll(() => rmSync(scratch, { recursive: true }));

/** A copy of a fixture's tokenizer with some files replaced, or removed where the content is undefined. */
function variant(name: string, model: string, files: Record<string, string | undefined>): string {
  const dir = join(scratch, name, "tokenizer");
  cpSync(join(fixturesDir, model, "tokenizer"), dir, { recursive: true });
  for (const [file, content] of Object.entries(files)) {
    if (content === undefined) rmSync(join(dir, file));
    else writeFileSync(join(dir, file), content);
  }
  return dir;
}

// flux-dev-tiny has vocab.json and merges.txt only, flux-schnell-tiny has tokenizer.json and lacks some bytes.
describe.each(["flux-dev-tiny", "flux-schnell-tiny"])("ClipTokenizer on %s", (model) => {
  const { maxLength, cases, tight } = recorded(model);
  const tokenizer = ClipTokenizer.load(join(fixturesDir, model, "tokenizer"));

  it("knows the length that the model was made for", () => {
    expect(tokenizer.modelMaxLength).toBe(maxLength);
  });

  it("gives transformers' ids for every odd text, and says when it cut one", () => {
    expect(cases.length).toBeGreaterThan(100);
    for (const { text, repeat, length, ids } of cases) {
      const prompt = text ?? repeat![0].repeat(repeat![1]);
      const actual = tokenizer.encode(prompt, maxLength);
      expect([...actual.ids], JSON.stringify(prompt.slice(0, 80))).toEqual(ids);
      expect(actual.truncated, JSON.stringify(prompt.slice(0, 80))).toBe(length > maxLength);
    }
  });

  it("keeps the start and the end token where there is room for little else", () => {
    for (const { text, maxLength: length, ids } of tight) {
      expect([...tokenizer.encode(text, length).ids], text).toEqual(ids);
    }
    expect(() => tokenizer.encode("a", 1)).toThrow("too short");
  });

  it("takes half a surrogate pair for the replacement character", () => {
    expect(tokenizer.encode("a\ud800b", maxLength)).toEqual(tokenizer.encode("a\ufffdb", maxLength));
  });
});

describe("ClipTokenizer", () => {
  it.each([
    ["words", "a white cat ".repeat(8334)],
    ["one word", "x".repeat(100_000)],
    ["one word that merges", "hello".repeat(20_000)],
    ["emoji", "😀👩‍🚀".repeat(14_000)],
    ["one letter with accents", `a${"\u0301".repeat(99_999)}`],
    ["null bytes", "\0".repeat(100_000)],
  ])("takes well under a second for 100,000 characters of %s", (_, prompt) => {
    const tokenizer = ClipTokenizer.load(join(fixturesDir, "flux-dev-tiny/tokenizer"));
    const start = performance.now();
    expect(tokenizer.encode(prompt, 77).truncated).toBe(true);
    // About 0.1 s; the bound leaves room for a busy machine, and quadratic work would take minutes.
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it("does as tokenizer.json says where no class of its own is named", () => {
    // The fixture's file describes the very steps that the class takes.
    const config = JSON.stringify({ tokenizer_class: "PreTrainedTokenizerFast", pad_token: "!" });
    const dir = variant("generic", "flux-schnell-tiny", { "tokenizer_config.json": config });
    const tokenizer = ClipTokenizer.load(dir);
    const { maxLength, cases } = recorded("flux-schnell-tiny");
    for (const { text, ids } of cases) {
      if (text !== undefined) expect([...tokenizer.encode(text, maxLength).ids], text).toEqual(ids);
    }
  });

  it("finds added tokens as transformers' own flags say", () => {
    const flags = { lstrip: false, rstrip: false, single_word: false, normalized: true, special: true };
    const config = JSON.stringify({
      added_tokens_decoder: {
        912: { ...flags, content: "<|startoftext|>" },
        913: { ...flags, content: "<|endoftext|>", normalized: false },
        914: { ...flags, content: "cat", single_word: true, special: false },
        915: { ...flags, content: "Dog", lstrip: true, rstrip: true, normalized: false, special: false },
      },
    });
    const tokenizer = ClipTokenizer.load(variant("flags", "flux-dev-tiny", { "tokenizer_config.json": config }));
    const ids = (text: string): number[] => [...tokenizer.encode(text, 77).ids].slice(1, 6);
    const a = ids("a")[0]!;
    // Recorded from transformers with the same files.
    expect(ids("a <|STARTOFTEXT|>").slice(0, 2)).toEqual([a, 912]);
    expect(ids("a <|ENDOFTEXT|>")[1]).not.toBe(913);
    expect(ids("a CAT a").slice(0, 3)).toEqual([a, 914, a]);
    expect(ids("acat")).not.toContain(914);
    expect(ids("a  Dog  a").slice(0, 3)).toEqual([a, 915, a]);
    expect(ids("dog")).not.toContain(915);
  });

  it.each([
    ["vocab.json", undefined, "vocab.json is missing"],
    ["merges.txt", undefined, "merges.txt is missing"],
    ["vocab.json", "{", "vocab.json is not valid JSON"],
    ["vocab.json", '{"a": "b"}', 'at "a"'],
    ["vocab.json", '{"<|startoftext|>": 0, "<|endoftext|>": 1, "a": 1e15}', "too large"],
    ["vocab.json", "{}", "vocab.json needs the token"],
    ["merges.txt", "a b c", "malformed merge"],
    ["merges.txt", "qqq zzz", '"qqq"'],
    ["tokenizer_config.json", "[]", "tokenizer_config.json"],
    ["tokenizer_config.json", '{"padding_side": "left"}', "padding_side"],
    ["tokenizer.json", '{"model": {"type": "WordPiece"}}', "tokenizer.json"],
    ["tokenizer.json", '{"model": {"type": "Unigram", "unk_id": 0, "vocab": [["a", 0]]}}', "CLIP needs BPE"],
    ["tokenizer.json", '{"model": {"type": "BPE", "vocab": {}, "merges": [], "byte_fallback": true}}', "byte_fallback"],
  ])("refuses a folder whose %s is %j", (file, content, message) => {
    const dir = variant(`bad-${Math.random()}`, "flux-dev-tiny", { [file]: content });
    expect(() => ClipTokenizer.load(dir)).toThrow(ModelInvalidError);
    expect(() => ClipTokenizer.load(dir)).toThrow(message);
  });
});
