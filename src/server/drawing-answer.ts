/** From the engine to the wire: a generation's outcome as one JSON object, or as events while it is drawn. */
import type { Generation, GenerationOutput } from "../engine/engine.ts";
import type { EncodedImage } from "../engine/engine-messages.ts";
import type { DrawingBody, ImageObject, ImagesResponse, Usage } from "./openai-schemas.ts";
import type { ServerEvent } from "./sse.ts";

/** Puts a picture where the client finds it: into the answer, or behind a link. */
export type Deliver = (image: Pick<EncodedImage, "data" | "format">) => Promise<{ b64_json: string } | { url: string }>;

/** The picture as base64, without a data-URL prefix. */
export const inline: Deliver = async ({ data }) => ({ b64_json: Buffer.from(data).toString("base64") });

/** The answer to a finished generation. `notices` come before the pipeline's own. */
export async function toImagesResponse(
  output: GenerationOutput,
  body: Pick<DrawingBody, "quality" | "output_format">,
  { deliver = inline, notices = [] }: { deliver?: Deliver; notices?: string[] } = {},
): Promise<ImagesResponse> {
  const data: ImageObject[] = [];
  for (const image of output.images) data.push({ ...(await deliver(image)), ...describe(image, output.model) });
  const allNotices = [...notices, ...output.notices];
  return {
    created: unixTime(),
    data,
    size: data[0]?.size ?? "auto",
    ...settings(body),
    usage: usageOf(output, output.images.length),
    ...(allNotices.length === 0 ? {} : { notices: allNotices }),
  };
}

/**
 * The generation as OpenAI's events: previews while it is drawn, then one event for each picture. `usage` counts that
 * picture; the input, which was read once, counts with the first. Throws what the generation throws.
 */
export async function* toEvents(
  generation: Generation,
  body: Pick<DrawingBody, "quality" | "output_format">,
  { kind, notices = [] }: { kind: "image_generation" | "image_edit"; notices?: string[] },
): AsyncGenerator<ServerEvent> {
  for await (const event of generation.events) {
    if (event.type !== "preview") continue;
    yield named(`${kind}.partial_image`, {
      ...(await inline(event)),
      partial_image_index: event.previewIndex,
      image_index: event.imageIndex,
      created_at: unixTime(),
      size: `${event.width}x${event.height}`,
      ...settings(body),
    });
  }
  const output = await generation.result;
  const allNotices = [...notices, ...output.notices];
  for (const [imageIndex, image] of output.images.entries()) {
    yield named(`${kind}.completed`, {
      ...(await inline(image)),
      ...describe(image, output.model),
      image_index: imageIndex,
      created_at: unixTime(),
      ...settings(body),
      usage: imageIndex === 0 ? usageOf(output, 1) : usageOf({ ...output, promptTokens: 0, inputImageTokens: 0 }, 1),
      ...(allNotices.length === 0 ? {} : { notices: allNotices }),
    });
  }
}

/** OpenAI's clients tell events apart by the type inside the data. */
function named(type: string, data: object): ServerEvent {
  return { event: type, data: { type, ...data } };
}

function describe(image: EncodedImage, model: string): Omit<ImageObject, "b64_json" | "url"> {
  const asked = image.upscaledFrom ?? image;
  const isResized = image.drawnWidth !== asked.width || image.drawnHeight !== asked.height;
  return {
    seed: image.seed,
    size: `${image.width}x${image.height}`,
    model,
    ...(isResized ? { drawn_size: `${image.drawnWidth}x${image.drawnHeight}` } : {}),
    ...(image.upscaledFrom
      ? { upscaled_from: `${asked.width}x${asked.height}`, upscale_method: image.upscaleMethod }
      : {}),
  };
}

function settings({ quality, output_format: format }: Pick<DrawingBody, "quality" | "output_format">) {
  return { quality: quality ?? "auto", output_format: format ?? "png", background: "opaque" } as const;
}

type Counts = Pick<GenerationOutput, "promptTokens" | "inputImageTokens" | "imageTokens">;

function usageOf({ promptTokens, inputImageTokens, imageTokens }: Counts, images: number): Usage {
  const inputTokens = promptTokens + inputImageTokens;
  const outputTokens = imageTokens * images;
  return {
    input_tokens: inputTokens,
    output_tokens: outputTokens,
    total_tokens: inputTokens + outputTokens,
    input_tokens_details: { text_tokens: promptTokens, image_tokens: inputImageTokens },
  };
}

function unixTime(): number {
  return Math.floor(Date.now() / 1000);
}
