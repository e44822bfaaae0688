/**
 * CLIP's tokenizer: lower-cased text, byte-pair encoding with "</w>" at the end of words, ids of at most
 * `modelMaxLength`. Follows transformers' `CLIPTokenizer`, which takes only vocabulary, merges and added tokens from the
 * files; the steps around them are the class's own.
 */
import { ModelInvalidError } from "../errors.ts";
import { readSpecialTokens } from "./added-tokens.ts";
import { BytePairEncoding } from "./byte-pair-encoding.ts";
import { genericTokenizer, isGeneric } from "./generic-tokenizer.ts";
import { compileNormalizer } from "./normalizers.ts";
import { compilePreTokenizer } from "./pre-tokenizers.ts";
import { type Encoding, TextTokenizer } from "./text-tokenizer.ts";
import {
  type BpeModelJson,
  type NormalizerJson,
  type PreTokenizerJson,
  type TokenizerConfig,
  TokenizerFolder,
  type TokenizerJson,
} from "./tokenizer-files.ts";

const clipNormalizer: NormalizerJson = {
  type: "Sequence",
  normalizers: [{ type: "NFC" }, { type: "Replace", pattern: { Regex: "\\s+" }, content: " " }, { type: "Lowercase" }],
};

const clipPreTokenizer: PreTokenizerJson = {
  type: "Sequence",
  pretokenizers: [
    {
      type: "Split",
      pattern: {
        Regex: String.raw`<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+`,
      },
      behavior: "Removed",
      invert: true,
    },
    { type: "ByteLevel", add_prefix_space: false, use_regex: true },
  ],
};

export class ClipTokenizer {
  /** The number of ids that the model was made for, 77 in OpenAI's. */
  readonly modelMaxLength: number;
  readonly #tokenizer: TextTokenizer;

  private constructor(tokenizer: TextTokenizer, modelMaxLength: number) {
    this.#tokenizer = tokenizer;
    this.modelMaxLength = modelMaxLength;
  }

  /**
   * Reads a folder with `tokenizer.json`, or with `vocab.json` and `merges.txt`.
   *
   * @throws ModelInvalidError naming the file that is missing or malformed.
   */
  static load(dir: string): ClipTokenizer {
    const folder = new TokenizerFolder(dir);
    const config = folder.config();
    const json = folder.has("tokenizer.json") ? folder.tokenizerJson() : undefined;
    const tokenizer =
      json !== undefined && isGeneric(config) ? genericTokenizer(folder, json, config) : clip(folder, json, config);
    return new ClipTokenizer(tokenizer, config.model_max_length ?? Infinity);
  }

  /**
   * The ids of `text` between the start and the end token, cut to `maxLength` and padded to it.
   *
   * @throws InvalidRequestError when `maxLength` is below 2.
   */
  encode(text: string, maxLength: number): Encoding {
    return this.#tokenizer.encode(text, maxLength);
  }
}

function clip(folder: TokenizerFolder, json: TokenizerJson | undefined, config: TokenizerConfig): TextTokenizer {
  const file = json === undefined ? "vocab.json" : "tokenizer.json";
  const label = folder.label(file);
  const { vocab, merges } = json === undefined ? vocabAndMerges(folder) : bpeModel(json, label);
  const special = readSpecialTokens(folder, json, config, new Map(Object.entries(vocab)), {
    bos_token: "<|startoftext|>",
    eos_token: "<|endoftext|>",
    unk_token: "<|endoftext|>",
    pad_token: "<|endoftext|>",
  });
  const [bos, eos, pad] = [special.idOf("bos"), special.idOf("eos"), special.idOf("pad")];
  if (bos === undefined || eos === undefined || pad === undefined) {
    throw new ModelInvalidError(`The model's file ${folder.label("tokenizer_config.json")} lacks a special token.`);
  }
  const model = { vocab, merges, end_of_word_suffix: "</w>", unk_token: special.contentOf("unk") };
  return new TextTokenizer({
    addedTokens: special.addedTokens,
    normalize: compileNormalizer(clipNormalizer, label),
    preTokenize: compilePreTokenizer(clipPreTokenizer, label),
    model: new BytePairEncoding(model, label),
    template: { before: [bos], after: [eos] },
    padId: pad,
  });
}

type VocabAndMerges = Pick<BpeModelJson, "vocab" | "merges">;

function bpeModel(json: TokenizerJson, label: string): VocabAndMerges {
  if (json.model.type === "BPE") return json.model;
  throw new ModelInvalidError(`The model's file ${label} holds a ${json.model.type} model, but CLIP needs BPE.`);
}

function vocabAndMerges(folder: TokenizerFolder): VocabAndMerges {
  const lines = folder.readText("merges.txt").split(/\r?\n/);
  return { vocab: folder.vocab(), merges: lines.filter((line) => line !== "" && !line.startsWith("#version")) };
}
