/** What a request comes to with a model: the size that is drawn, the settings with their gaps filled, and what to tell. */
import { planDrawnSize, resizingNotice, type Size } from "./drawn-size.ts";
import type { ImageCondition } from "./image-conditioning.ts";
import type { CardedModel, ModelCard } from "./model-card.ts";

/** What to draw. Omitted values take the model's own defaults. */
export interface GenerationParams {
  prompt: string;
  negativePrompt?: string | undefined;
  /** Pixels of the answer. */
  width: number;
  height: number;
  numInferenceSteps?: number | undefined;
  /** What the guidance embedding is told, for models that have one. */
  guidanceScale?: number | undefined;
  /** Classifier-free guidance against the negative prompt, two passes a step when above 1. Default 4 with one, else 1. */
  trueCfgScale?: number | undefined;
  /** Image i of n is drawn with seed + i. */
  seed: number;
  numImages: number;
  maxSequenceLength?: number | undefined;
  /**
   * How much a step may differ from the last whole one to be taken from it for the most part, see `Denoising`: 0 is off, the default;
   * 0.1 is a mild choice.
   */
  stepCache?: number | undefined;
  /** Image to image and inpainting: the picture to start from. */
  condition?: ImageCondition | undefined;
  /** Adapters for the model, applied together. A request with others than the last one loads the networks anew. */
  loras?: readonly LoraFile[] | undefined;
}

/** A LoRA and how strongly to apply it. */
export interface LoraFile {
  /** A safetensors file. */
  file: string;
  /** 1: as trained; may be negative. */
  scale: number;
}

/** What a model brings to a plan. */
export interface PlannedModel extends CardedModel {
  /** Pixels of one token, along a side. */
  granularity: number;
}

export interface GenerationSettings {
  drawn: Size;
  numInferenceSteps: number;
  guidanceScale: number;
  trueCfgScale: number;
  /** What to keep away from; undefined when nothing does. */
  negativePrompt: string | undefined;
  maxSequenceLength: number;
  stepCache: number;
  /** What the user must be told. */
  notices: string[];
}

const defaultTrueCfgScale = 4;

/** @throws InvalidRequestError when the model cannot draw the size that is asked for. */
export function planGeneration(params: GenerationParams, model: PlannedModel): GenerationSettings {
  const { defaults, card, granularity } = model;
  const { trueCfgScale, negativePrompt } = resolveTrueCfg(params, model);
  const drawn = planDrawnSize(params, granularity, card.nativeSize);
  return {
    drawn,
    numInferenceSteps: params.numInferenceSteps ?? defaults.numInferenceSteps,
    guidanceScale: params.guidanceScale ?? defaults.guidanceScale,
    trueCfgScale,
    negativePrompt: trueCfgScale > 1 ? negativePrompt : undefined,
    maxSequenceLength: params.maxSequenceLength ?? defaults.maxSequenceLength,
    stepCache: params.stepCache ?? 0,
    notices: settingsNotices(params, model, drawn),
  };
}

/** What decides on classifier-free guidance, besides the request. */
type Guided = { card: Pick<ModelCard, "trueCfgScale">; guidanceEmbeds: boolean };

/** How often a step runs the transformer: twice when classifier-free guidance takes it for a negative prompt, too. */
export function passesPerStep(params: GenerationParams, model: Guided): 1 | 2 {
  const { trueCfgScale, negativePrompt } = resolveTrueCfg(params, model);
  return trueCfgScale > 1 && negativePrompt !== undefined ? 2 : 1;
}

/** The scale of classifier-free guidance, and what to keep away from. */
function resolveTrueCfg(params: GenerationParams, { card, guidanceEmbeds }: Guided) {
  if (card.trueCfgScale === undefined) {
    const { negativePrompt } = params;
    const trueCfgScale = params.trueCfgScale ?? (negativePrompt === undefined ? 1 : defaultTrueCfgScale);
    return { trueCfgScale, negativePrompt };
  }
  // Without an embedded scale, the guidance that is asked for can only be the classifier-free one.
  const asked = params.trueCfgScale ?? (guidanceEmbeds ? undefined : params.guidanceScale);
  return { trueCfgScale: asked ?? card.trueCfgScale, negativePrompt: params.negativePrompt ?? "" };
}

function settingsNotices(params: GenerationParams, { card, guidanceEmbeds }: PlannedModel, drawn: Size): string[] {
  const notices: string[] = [];
  const resizing = resizingNotice(drawn, params);
  if (resizing !== undefined) notices.push(resizing);
  if (card.nativeSize !== undefined && drawn.width !== drawn.height) {
    notices.push("This model has learnt squares only; in other shapes things repeat.");
  }
  if (params.prompt.trim() === "")
    notices.push("The prompt is empty: the picture is whatever the model comes up with.");
  const needsCfg = card.trueCfgScale !== undefined;
  if (params.guidanceScale !== undefined && !guidanceEmbeds && !needsCfg) {
    notices.push("This model takes no guidance scale; it was ignored.");
  }
  if (
    params.trueCfgScale !== undefined &&
    params.trueCfgScale > 1 &&
    params.negativePrompt === undefined &&
    !needsCfg
  ) {
    notices.push("The true CFG scale was ignored: it needs a negative prompt.");
  }
  if (params.negativePrompt !== undefined && params.trueCfgScale !== undefined && params.trueCfgScale <= 1) {
    notices.push("The negative prompt was ignored: it needs a true CFG scale above 1.");
  }
  return notices;
}
