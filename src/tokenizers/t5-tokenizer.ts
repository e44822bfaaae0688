/**
 * T5's tokenizer: SentencePiece's normalisation and unigram model, read from `tokenizer.json`, and "</s>" at the end.
 * Follows transformers' `T5Tokenizer`, which takes vocabulary, character map and added tokens from the file; the steps
 * around them are the class's own.
 */
import { ModelInvalidError } from "../errors.ts";
import { readSpecialTokens } from "./added-tokens.ts";
import { genericTokenizer, isGeneric } from "./generic-tokenizer.ts";
import { compileNormalizer } from "./normalizers.ts";
import { compilePreTokenizer } from "./pre-tokenizers.ts";
import { type Encoding, TextTokenizer } from "./text-tokenizer.ts";
import {
  type NormalizerJson,
  type PreTokenizerJson,
  type TokenizerConfig,
  TokenizerFolder,
  type TokenizerJson,
} from "./tokenizer-files.ts";
import { Unigram } from "./unigram.ts";

const t5PreTokenizer: PreTokenizerJson = {
  type: "Sequence",
  pretokenizers: [{ type: "WhitespaceSplit" }, { type: "Metaspace", replacement: "▁", prepend_scheme: "always" }],
};

/** Where T5's vocabularies have "<unk>". */
const t5UnknownId = 2;

export class T5Tokenizer {
  /** The number of ids that the folder names, 512 in FLUX.1. */
  readonly modelMaxLength: number;
  readonly #tokenizer: TextTokenizer;

  private constructor(tokenizer: TextTokenizer, modelMaxLength: number) {
    this.#tokenizer = tokenizer;
    this.modelMaxLength = modelMaxLength;
  }

  /** @throws ModelInvalidError naming the file that is missing or malformed. */
  static load(dir: string): T5Tokenizer {
    const folder = new TokenizerFolder(dir);
    if (!folder.has("tokenizer.json") && folder.has("spiece.model")) {
      throw new ModelInvalidError(
        `The model's folder "${folder.label("")}" has spiece.model but no tokenizer.json, which Easel reads; ` +
          "save the tokenizer with transformers to get one.",
      );
    }
    const config = folder.config();
    const json = folder.tokenizerJson();
    const tokenizer = isGeneric(config) ? genericTokenizer(folder, json, config) : t5(folder, json, config);
    return new T5Tokenizer(tokenizer, config.model_max_length ?? Infinity);
  }

  /**
   * The ids of `text` and the end token, cut to `maxLength` and padded to it.
   *
   * @throws InvalidRequestError when `maxLength` is below 1.
   */
  encode(text: string, maxLength: number): Encoding {
    return this.#tokenizer.encode(text, maxLength);
  }
}

function t5(folder: TokenizerFolder, json: TokenizerJson, config: TokenizerConfig): TextTokenizer {
  const label = folder.label("tokenizer.json");
  if (json.model.type !== "Unigram") {
    throw new ModelInvalidError(`The model's file ${label} holds a ${json.model.type} model, but T5 needs Unigram.`);
  }
  const model = new Unigram({ vocab: json.model.vocab, unk_id: t5UnknownId }, label);
  const special = readSpecialTokens(folder, json, config, model.vocab, {
    eos_token: "</s>",
    unk_token: "<unk>",
    pad_token: "<pad>",
  });
  const [eos, pad] = [special.idOf("eos"), special.idOf("pad")];
  if (eos === undefined || pad === undefined) {
    throw new ModelInvalidError(`The model's file ${folder.label("tokenizer_config.json")} lacks a special token.`);
  }
  return new TextTokenizer({
    addedTokens: special.addedTokens,
    normalize: compileNormalizer(charsmapOf(folder.normalizer(json)), label),
    preTokenize: compilePreTokenizer(t5PreTokenizer, label),
    model,
    template: { before: [], after: [eos] },
    padId: pad,
  });
}

/** The character map, wherever in the normalizer it stands. */
function charsmapOf(normalizer: NormalizerJson | null): NormalizerJson | null {
  if (normalizer?.type !== "Sequence") return normalizer?.type === "Precompiled" ? normalizer : null;
  return normalizer.normalizers.find((step) => step.type === "Precompiled") ?? null;
}
