/** A tokenizer that is all in `tokenizer.json`: what transformers loads where no class of its own is named. */
import { ModelInvalidError } from "../errors.ts";
import { readSpecialTokens } from "./added-tokens.ts";
import { BytePairEncoding } from "./byte-pair-encoding.ts";
import { compileNormalizer } from "./normalizers.ts";
import { compilePreTokenizer } from "./pre-tokenizers.ts";
import { templateOf, TextTokenizer } from "./text-tokenizer.ts";
import type { TokenizerConfig, TokenizerFolder, TokenizerJson } from "./tokenizer-files.ts";
import { Unigram } from "./unigram.ts";

/** Whether the folder asks for the tokenizer as the file has it. */
export function isGeneric(config: TokenizerConfig): boolean {
  return config.tokenizer_class === "PreTrainedTokenizerFast" || config.tokenizer_class === "TokenizersBackend";
}

/** @throws ModelInvalidError naming a component that Easel does not have. */
export function genericTokenizer(folder: TokenizerFolder, json: TokenizerJson, config: TokenizerConfig): TextTokenizer {
  const label = folder.label("tokenizer.json");
  const model = json.model.type === "BPE" ? new BytePairEncoding(json.model, label) : new Unigram(json.model, label);
  const special = readSpecialTokens(folder, json, config, model.vocab, {});
  const padId = special.idOf("pad");
  if (padId === undefined) {
    throw new ModelInvalidError(`The model's file ${folder.label("tokenizer_config.json")} names no pad_token.`);
  }
  return new TextTokenizer({
    addedTokens: special.addedTokens,
    normalize: compileNormalizer(folder.normalizer(json), label),
    preTokenize: compilePreTokenizer(folder.preTokenizer(json), label),
    model,
    template: templateOf(folder.postProcessor(json), label),
    padId,
  });
}
