/**
 * `easel.json`, the card of a model made for Easel: what it draws when a request leaves something open. Folders from
 * elsewhere have none; then its kind decides.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigReader } from "../models/config-reader.ts";
import { type FluxConfig, parseFluxConfig } from "../models/flux/config.ts";

export interface ModelCard {
  /**
   * The side in pixels of the one square size a small model has learnt; requests of other sizes are drawn near it and then
   * enlarged or reduced. Undefined for models that draw any size.
   */
  nativeSize: number | undefined;
  steps: number | undefined;
  guidanceScale: number | undefined;
  /**
   * For a model whose guidance was not distilled into it: the scale of classifier-free guidance, which every picture then
   * needs, against "" when the request has no negative prompt.
   */
  trueCfgScale: number | undefined;
  maxSequenceLength: number | undefined;
  license: string | undefined;
}

/** The card in a model folder; every field is undefined where there is none. Throws `ModelInvalidError`. */
export function readModelCard(modelDir: string): ModelCard {
  const path = join(modelDir, "easel.json");
  const card = existsSync(path) ? ConfigReader.readFile(path) : new ConfigReader({}, "easel.json");
  return {
    nativeSize: card.has("nativeSize") ? card.int("nativeSize", { min: 16 }) : undefined,
    steps: card.has("steps") ? card.int("steps") : undefined,
    guidanceScale: card.has("guidanceScale") ? card.number("guidanceScale") : undefined,
    trueCfgScale: card.has("trueCfgScale") ? card.number("trueCfgScale") : undefined,
    maxSequenceLength: card.has("maxSequenceLength") ? card.int("maxSequenceLength") : undefined,
    license: card.has("license") ? card.string("license") : undefined,
  };
}

export interface GenerationDefaults {
  numInferenceSteps: number;
  guidanceScale: number;
  maxSequenceLength: number;
}

/** The card's settings, and where it has none those that FLUX.1-dev and FLUX.1-schnell were published with. */
export function generationDefaults(card: ModelCard, transformer: FluxConfig): GenerationDefaults {
  const published = transformer.guidanceEmbeds
    ? { numInferenceSteps: 28, guidanceScale: 3.5, maxSequenceLength: 512 }
    : { numInferenceSteps: 4, guidanceScale: 0, maxSequenceLength: 256 };
  return {
    numInferenceSteps: card.steps ?? published.numInferenceSteps,
    guidanceScale: card.guidanceScale ?? published.guidanceScale,
    maxSequenceLength: card.maxSequenceLength ?? published.maxSequenceLength,
  };
}

/** What a model's files say of how to draw with it. */
export interface CardedModel {
  card: ModelCard;
  defaults: GenerationDefaults;
  /** Whether the guidance scale is an input of the transformer. */
  guidanceEmbeds: boolean;
}

/** Of the model in a folder, without loading its networks. Throws `ModelInvalidError`. */
export function readCardedModel(modelDir: string): CardedModel {
  const card = readModelCard(modelDir);
  const transformer = parseFluxConfig(ConfigReader.read(join(modelDir, "transformer")));
  return { card, defaults: generationDefaults(card, transformer), guidanceEmbeds: transformer.guidanceEmbeds };
}

/** `generationDefaults` of the model in a folder, without loading its networks. Throws `ModelInvalidError`. */
export function readGenerationDefaults(modelDir: string): GenerationDefaults {
  return readCardedModel(modelDir).defaults;
}
