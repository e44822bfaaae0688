/** From the wire to the engine. */
import type { Engine } from "../engine/engine.ts";
import type { GenerationRequest } from "../engine/generation-request.ts";
import { readImageInput } from "../engine/image-input.ts";
import type { DecodeLimits } from "../images/decode.ts";
import type { DrawingBody } from "./openai-schemas.ts";

export interface DrawingDefaults {
  engine: Pick<Engine, "fit">;
  /** The model of requests that name none. */
  defaultModel: string;
  /** Whether pictures tell their prompts when the request does not say. */
  embedPrompt: boolean;
  uploads: DecodeLimits;
}

/**
 * The request that `body` makes, its pictures decoded and fitted; `notices` gets what is to be told of that. Throws
 * `invalid_request` naming the field at fault.
 */
export async function toGenerationRequest(
  body: DrawingBody,
  defaults: DrawingDefaults,
  notices: string[] = [],
): Promise<GenerationRequest> {
  const request: GenerationRequest = {
    model: body.model ?? defaults.defaultModel,
    prompt: body.prompt ?? "",
    negativePrompt: body.negative_prompt ?? undefined,
    size: body.size ?? undefined,
    numImages: body.n ?? undefined,
    seed: body.seed ?? undefined,
    numInferenceSteps: body.steps ?? undefined,
    guidanceScale: body.guidance_scale ?? undefined,
    trueCfgScale: body.true_cfg_scale ?? undefined,
    maxSequenceLength: body.max_sequence_length ?? undefined,
    stepCache: body.step_cache ?? undefined,
    loras: body.lora ?? undefined,
    quality: body.quality ?? undefined,
    upscale: body.upscale ?? undefined,
    previews: body.partial_images ?? undefined,
    output: {
      format: body.output_format ?? undefined,
      quality: body.output_compression ?? undefined,
      embedPrompt: body.embed_prompt ?? defaults.embedPrompt,
    },
    condition:
      body.image &&
      (await readImageInput(
        { image: body.image.data, mask: body.mask?.data, strength: body.strength ?? undefined },
        { image: "image", mask: "mask" },
        defaults.uploads,
      )),
  };
  return await defaults.engine.fit(request, notices);
}

/** What a body asks for that has no effect. One sentence each. */
export function bodyNotices(body: Record<string, unknown>, knownFields: ReadonlySet<string>): string[] {
  const notices: string[] = [];
  const unknown = Object.keys(body).filter((name) => !knownFields.has(name));
  if (unknown.length > 0) {
    const shown = unknown.slice(0, 10).map((name) => JSON.stringify(name.slice(0, 40)));
    const more = unknown.length > shown.length ? ", ..." : "";
    notices.push(`Unknown parameters had no effect: ${shown.join(", ")}${more}.`);
  }
  if (typeof body["output_compression"] === "number" && (body["output_format"] ?? "png") === "png") {
    notices.push("output_compression had no effect: PNG files lose nothing.");
  }
  return notices;
}
