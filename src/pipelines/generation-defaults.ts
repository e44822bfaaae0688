/** What a model draws when a request leaves something open: `easel.json` in its folder, or what suits its kind. */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { ConfigReader } from "../models/config-reader.ts";
import type { FluxConfig } from "../models/flux/config.ts";

export interface GenerationDefaults {
  /**
   * The side in pixels of the one square size a small model has learnt; requests of other sizes are drawn near it and then
   * enlarged or reduced. Undefined for models that draw any size.
   */
  nativeSize: number | undefined;
  numInferenceSteps: number;
  guidanceScale: number;
  maxSequenceLength: number;
}

/** @throws ModelInvalidError when `easel.json` is malformed. */
export function readGenerationDefaults(modelDir: string, transformer: FluxConfig): GenerationDefaults {
  // FLUX.1-dev's and FLUX.1-schnell's published settings.
  const usual = transformer.guidanceEmbeds
    ? { steps: 28, guidanceScale: 3.5, maxSequenceLength: 512 }
    : { steps: 4, guidanceScale: 0, maxSequenceLength: 256 };
  const path = join(modelDir, "easel.json");
  const config = existsSync(path) ? ConfigReader.readFile(path) : new ConfigReader({}, "easel.json");
  return {
    nativeSize: config.has("nativeSize") ? config.int("nativeSize", { min: 16 }) : undefined,
    numInferenceSteps: config.int("steps", { default: usual.steps }),
    guidanceScale: config.number("guidanceScale", usual.guidanceScale),
    maxSequenceLength: config.int("maxSequenceLength", { default: usual.maxSequenceLength }),
  };
}
