import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { ModelInvalidError } from "../errors.ts";
import { T5Tokenizer } from "./t5-tokenizer.ts";

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
  return all[model]!["tokenizer_2"]!;
}

// flux-dev-tiny is normalised by nmt_nfkc as T5 is, flux-schnell-tiny by rules of its own.
describe.each(["flux-dev-tiny", "flux-schnell-tiny"])("T5Tokenizer on %s", (model) => {
  const { maxLength, cases, tight } = recorded(model);
  const tokenizer = T5Tokenizer.load(join(fixturesDir, model, "tokenizer_2"));

  it("gives transformers' ids for every odd text, and says when it cut one", () => {
    expect(cases.length).toBeGreaterThan(100);
    for (const { text, repeat, length, ids } of cases) {
      const prompt = text ?? repeat![0].repeat(repeat![1]);
      const actual = tokenizer.encode(prompt, maxLength);
      expect([...actual.ids], JSON.stringify(prompt.slice(0, 80))).toEqual(ids);
      expect(actual.truncated, JSON.stringify(prompt.slice(0, 80))).toBe(length > maxLength);
    }
  });

  it("keeps the end token where there is room for little else", () => {
    for (const { text, maxLength: length, ids } of tight) {
      expect([...tokenizer.encode(text, length).ids], text).toEqual(ids);
    }
    expect(() => tokenizer.encode("a", 0)).toThrow("too short");
  });
});

describe("T5Tokenizer", () => {
  let scratch: string;
  beforeAll(() => {
    scratch = mkdtempSync(join(tmpdir(), "easel-t5-"));
  });
  afterAll(() => rmSync(scratch, { recursive: true }));

  const fixture = join(fixturesDir, "flux-schnell-tiny/tokenizer_2");
  const tokenizerJson = JSON.parse(readFileSync(join(fixture, "tokenizer.json"), "utf8")) as Record<string, object>;

  /** A copy of the fixture with parts of its tokenizer.json replaced. */
  function variant(changes: Record<string, unknown>, config?: Record<string, unknown>): string {
    const dir = join(mkdtempSync(join(scratch, "variant-")), "tokenizer_2");
    cpSync(fixture, dir, { recursive: true });
    writeFileSync(join(dir, "tokenizer.json"), JSON.stringify({ ...tokenizerJson, ...changes }));
    if (config !== undefined) writeFileSync(join(dir, "tokenizer_config.json"), JSON.stringify(config));
    return dir;
  }

  it.each([
    ["words", "a white cat ".repeat(8334)],
    ["one word", "hello".repeat(20_000)],
    ["emoji", "😀👩‍🚀".repeat(14_000)],
    ["one letter with accents", `a${"\u0301".repeat(99_999)}`],
    ["special tokens", "</s>".repeat(25_000)],
  ])("takes well under a second for 100,000 characters of %s", (_, prompt) => {
    const tokenizer = T5Tokenizer.load(join(fixturesDir, "flux-dev-tiny/tokenizer_2"));
    const start = performance.now();
    tokenizer.encode(prompt, 512);
    // About 0.05 s; the bound leaves room for a busy machine, and quadratic work would take minutes.
    expect(performance.now() - start).toBeLessThan(2000);
  });

  it("takes only the character map from the file's normalizer, as transformers' class does", () => {
    const normalizer = {
      type: "Sequence",
      normalizers: [{ type: "Lowercase" }, tokenizerJson["normalizer"], { type: "Prepend", prepend: "x" }],
    };
    const tokenizer = T5Tokenizer.load(variant({ normalizer, pre_tokenizer: null }));
    const { maxLength, cases } = recorded("flux-schnell-tiny");
    for (const { text, ids } of cases) {
      if (text !== undefined) expect([...tokenizer.encode(text, maxLength).ids], text).toEqual(ids);
    }
  });

  it("does as tokenizer.json says where no class of its own is named", () => {
    const config = { tokenizer_class: "TokenizersBackend", pad_token: "<pad>" };
    const normalizer = { type: "Sequence", normalizers: [{ type: "Lowercase" }, tokenizerJson["normalizer"]] };
    const plain = T5Tokenizer.load(variant({}, config));
    const lower = T5Tokenizer.load(variant({ normalizer }, config));
    expect(plain.encode("A WHITE Cat", 16)).not.toEqual(plain.encode("a white cat", 16));
    expect(lower.encode("A WHITE Cat", 16)).toEqual(plain.encode("a white cat", 16));
  });

  it("says that spiece.model alone is not enough", () => {
    const dir = mkdtempSync(join(scratch, "spiece-"));
    writeFileSync(join(dir, "spiece.model"), "");
    expect(() => T5Tokenizer.load(dir)).toThrow(ModelInvalidError);
    expect(() => T5Tokenizer.load(dir)).toThrow("spiece.model but no tokenizer.json");
  });

  it.each([
    [{ model: { type: "BPE", vocab: {}, merges: [] } }, "T5 needs Unigram"],
    [{ model: { type: "Unigram", unk_id: 0, vocab: [] } }, "model.vocab"],
    [{ model: { type: "Unigram", unk_id: 0, vocab: [["a", 0]] } }, "without an unknown token"],
    [{ model: { type: "Unigram", unk_id: 2, vocab: [["a"]] } }, "model.vocab.0"],
    [{ normalizer: { type: "Precompiled", precompiled_charsmap: "AAAA" } }, "damaged precompiled_charsmap"],
    [{ normalizer: { type: "Precompiled", precompiled_charsmap: "/////w==" } }, "damaged precompiled_charsmap"],
    [{ normalizer: { type: "BertNormalizer" } }, "normalizer.type"],
    [{ added_tokens: [{ id: 1 }] }, "added_tokens.0.content"],
  ])("refuses a tokenizer.json with %j", (changes, message) => {
    const dir = variant(changes);
    expect(() => T5Tokenizer.load(dir)).toThrow(ModelInvalidError);
    expect(() => T5Tokenizer.load(dir)).toThrow(message);
    expect(() => T5Tokenizer.load(dir)).toThrow("tokenizer_2/tokenizer.json");
  });
});
