/**
 * The files of a tokenizer's folder, checked before use. `tokenizer.json` is the format of Hugging Face's `tokenizers`
 * (https://huggingface.co/docs/tokenizers): normalizer → pre-tokenizer → model → post-processor, each a typed component.
 */
import { existsSync, readFileSync } from "node:fs";
import { basename, join } from "node:path";
import { z } from "zod";
import { ModelInvalidError } from "../errors.ts";

const pattern = z.union([z.object({ String: z.string() }), z.object({ Regex: z.string() })]);

export type NormalizerJson =
  | { type: "Sequence"; normalizers: NormalizerJson[] }
  | { type: "NFC" | "NFD" | "NFKC" | "NFKD" | "Lowercase" }
  | { type: "Strip"; strip_left: boolean; strip_right: boolean }
  | { type: "Prepend"; prepend: string }
  | { type: "Replace"; pattern: z.infer<typeof pattern>; content: string }
  | { type: "Precompiled"; precompiled_charsmap: string };

const normalizer: z.ZodType<NormalizerJson> = z.lazy(() =>
  z.discriminatedUnion("type", [
    z.object({ type: z.literal("Sequence"), normalizers: z.array(normalizer) }),
    z.object({ type: z.enum(["NFC", "NFD", "NFKC", "NFKD", "Lowercase"]) }),
    z.object({ type: z.literal("Strip"), strip_left: z.boolean(), strip_right: z.boolean() }),
    z.object({ type: z.literal("Prepend"), prepend: z.string() }),
    z.object({ type: z.literal("Replace"), pattern, content: z.string() }),
    z.object({ type: z.literal("Precompiled"), precompiled_charsmap: z.string() }),
  ]),
);

export type PreTokenizerJson =
  | { type: "Sequence"; pretokenizers: PreTokenizerJson[] }
  | { type: "WhitespaceSplit" }
  | {
      type: "Metaspace";
      replacement: string;
      prepend_scheme?: "always" | "never" | undefined;
      add_prefix_space?: boolean | undefined;
      split?: boolean | undefined;
    }
  | { type: "Split"; pattern: z.infer<typeof pattern>; behavior: "Removed" | "Isolated"; invert: boolean }
  | { type: "ByteLevel"; add_prefix_space: boolean; use_regex?: boolean | undefined };

const preTokenizer: z.ZodType<PreTokenizerJson> = z.lazy(() =>
  z.discriminatedUnion("type", [
    z.object({ type: z.literal("Sequence"), pretokenizers: z.array(preTokenizer) }),
    z.object({ type: z.literal("WhitespaceSplit") }),
    z.object({
      type: z.literal("Metaspace"),
      replacement: z.string().length(1),
      prepend_scheme: z.enum(["always", "never"]).optional(),
      add_prefix_space: z.boolean().optional(),
      split: z.boolean().optional(),
    }),
    z.object({
      type: z.literal("Split"),
      pattern,
      behavior: z.enum(["Removed", "Isolated"]),
      invert: z.boolean(),
    }),
    z.object({ type: z.literal("ByteLevel"), add_prefix_space: z.boolean(), use_regex: z.boolean().optional() }),
  ]),
);

const id = z.int().nonnegative();
/** Published files say false or leave these out; anything else would change the tokens. */
const off = z.literal(false).nullish();

const bpeModel = z.object({
  type: z.literal("BPE"),
  dropout: z.null().optional(),
  unk_token: z.string().nullish(),
  continuing_subword_prefix: z.literal("").nullish(),
  end_of_word_suffix: z.string().nullish(),
  fuse_unk: off,
  byte_fallback: off,
  ignore_merges: off,
  vocab: z.record(z.string(), id),
  merges: z.array(z.union([z.string(), z.tuple([z.string(), z.string()])])),
});

const unigramModel = z.object({
  type: z.literal("Unigram"),
  unk_id: id.nullable(),
  byte_fallback: off,
  vocab: z.array(z.tuple([z.string(), z.number()])).min(1),
});

export type BpeModelJson = z.infer<typeof bpeModel>;
export type UnigramModelJson = z.infer<typeof unigramModel>;

const addedTokenFlags = z.object({
  content: z.string(),
  single_word: z.boolean().default(false),
  lstrip: z.boolean().default(false),
  rstrip: z.boolean().default(false),
  normalized: z.boolean().optional(),
  special: z.boolean().default(false),
});

const templatePiece = z.union([
  z.object({ Sequence: z.object({ id: z.enum(["A", "B"]) }) }),
  z.object({ SpecialToken: z.object({ id: z.string() }) }),
]);

const postProcessor = z.discriminatedUnion("type", [
  z.object({
    type: z.literal("TemplateProcessing"),
    single: z.array(templatePiece),
    special_tokens: z.record(z.string(), z.object({ ids: z.array(id) })),
  }),
  z.object({
    type: z.literal("RobertaProcessing"),
    sep: z.tuple([z.string(), id]),
    cls: z.tuple([z.string(), id]),
  }),
]);

export type PostProcessorJson = z.infer<typeof postProcessor>;

const tokenizerJson = z.object({
  added_tokens: z.array(addedTokenFlags).default([]),
  normalizer: z.unknown().optional(),
  pre_tokenizer: z.unknown().optional(),
  post_processor: z.unknown().optional(),
  model: z.discriminatedUnion("type", [bpeModel, unigramModel]),
});

export type TokenizerJson = z.infer<typeof tokenizerJson>;

const namedToken = z.union([z.string(), addedTokenFlags]).nullish();

const namedTokens = z.object({
  bos_token: namedToken,
  eos_token: namedToken,
  unk_token: namedToken,
  sep_token: namedToken,
  pad_token: namedToken,
  cls_token: namedToken,
  mask_token: namedToken,
});

const tokenizerConfig = namedTokens.extend({
  tokenizer_class: z.string().nullish(),
  model_max_length: z.number().positive().nullish(),
  padding_side: z.literal("right").nullish(),
  truncation_side: z.literal("right").nullish(),
  added_tokens_decoder: z.record(z.string().regex(/^\d+$/), addedTokenFlags).nullish(),
});

export type NamedTokens = z.infer<typeof namedTokens>;
export type TokenizerConfig = z.infer<typeof tokenizerConfig>;
export type AddedTokenJson = z.infer<typeof addedTokenFlags>;

/** A tokenizer's folder. Its methods throw ModelInvalidError, naming the file, when one is missing or malformed. */
export class TokenizerFolder {
  readonly dir: string;

  constructor(dir: string) {
    this.dir = dir;
  }

  has(file: string): boolean {
    return existsSync(join(this.dir, file));
  }

  /** "tokenizer/vocab.json", as errors name a file. */
  label(file: string): string {
    return `${basename(this.dir)}/${file}`;
  }

  readText(file: string): string {
    try {
      return readFileSync(join(this.dir, file), "utf8");
    } catch (cause) {
      const label = this.label(file);
      throw new ModelInvalidError(`The model's file ${label} is missing or unreadable; copy the whole model folder.`, {
        cause,
      });
    }
  }

  tokenizerJson(): TokenizerJson {
    return this.#parse("tokenizer.json", tokenizerJson);
  }

  normalizer(json: TokenizerJson): NormalizerJson | null {
    return this.#check("tokenizer.json", z.object({ normalizer: normalizer.nullish() }), json).normalizer ?? null;
  }

  preTokenizer(json: TokenizerJson): PreTokenizerJson | null {
    const schema = z.object({ pre_tokenizer: preTokenizer.nullish() });
    return this.#check("tokenizer.json", schema, json).pre_tokenizer ?? null;
  }

  postProcessor(json: TokenizerJson): PostProcessorJson | null {
    const schema = z.object({ post_processor: postProcessor.nullish() });
    return this.#check("tokenizer.json", schema, json).post_processor ?? null;
  }

  /** `tokenizer_config.json`; a folder without one has all the defaults. */
  config(): TokenizerConfig {
    return this.has("tokenizer_config.json") ? this.#parse("tokenizer_config.json", tokenizerConfig) : {};
  }

  /** `special_tokens_map.json` of older folders. */
  namedTokens(): NamedTokens {
    return this.has("special_tokens_map.json") ? this.#parse("special_tokens_map.json", namedTokens) : {};
  }

  /** `vocab.json` of older folders: token → id. */
  vocab(): Record<string, number> {
    return this.#parse("vocab.json", z.record(z.string(), id));
  }

  #parse<T>(file: string, schema: z.ZodType<T>): T {
    const text = this.readText(file);
    let json: unknown;
    try {
      json = JSON.parse(text);
    } catch (cause) {
      throw new ModelInvalidError(`The model's file ${this.label(file)} is not valid JSON.`, { cause });
    }
    return this.#check(file, schema, json);
  }

  #check<T>(file: string, schema: z.ZodType<T>, json: unknown): T {
    const result = schema.safeParse(json);
    if (result.success) return result.data;
    const issue = result.error.issues[0]!;
    const where = issue.path.length === 0 ? "" : ` at "${issue.path.join(".")}"`;
    throw new ModelInvalidError(
      `The model's file ${this.label(file)} is not a tokenizer that Easel can use${where}: ${issue.message}.`,
    );
  }
}
