/**
 * The child process that draws: it loads models, runs the pipeline and encodes the pictures.
 *
 * It is a process of its own because a network's run blocks its thread's event loop, and because a native crash or an
 * out-of-memory kill must cost one generation, not the service.
 */
import { serializeError } from "../errors.ts";
import { encodeImage } from "../images/encode.ts";
import { metadataFits, type PictureMetadata } from "../images/metadata.ts";
import { upscale } from "../images/upscale.ts";
import type { Preview } from "../pipelines/flux-pipeline.ts";
import type {
  EncodedImage,
  EncodedPreview,
  FromEngineProcess,
  GenerationJob,
  JobResult,
  ToEngineProcess,
} from "./engine-messages.ts";
import type { OutputOptions } from "./generation-request.ts";
import { ModelPool } from "./model-pool.ts";
import { type GenerationRecord, pictureMetadata, recordOf } from "./provenance.ts";

// A terminal's Ctrl-C and a service manager's stop reach every process of the group; this one leaves with its parent.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
process.on("disconnect", () => process.exit());

const pool = new ModelPool();
let current: { id: string; controller: AbortController } | undefined;

process.on("message", (message: ToEngineProcess) => {
  if (message.type === "generate") void answer(message.id, message.job);
  else if (message.id === current?.id) current.controller.abort();
});

async function answer(id: string, job: GenerationJob): Promise<void> {
  const controller = new AbortController();
  current = { id, controller };
  try {
    send({ type: "done", id, result: await generate(id, job, controller.signal) });
  } catch (error) {
    send({ type: "failed", id, error: serializeError(error) });
  } finally {
    current = undefined;
  }
}

async function generate(id: string, job: GenerationJob, signal: AbortSignal): Promise<JobResult> {
  const { params, output, upscale: factor } = job;
  const foundLoaded = pool.has(job.pipeline);
  const pipeline = await pool.get(job.pipeline);
  const { images: drawn, ...result } = await pipeline.generate(params, {
    signal,
    onProgress: (progress) => send({ type: "progress", id, progress }),
    previews: job.previews,
    onPreview: async (preview) => send({ type: "preview", id, preview: await encodePreview(preview, output) }),
  });

  const notices = new Set([...job.notices, ...result.notices]);
  const images: EncodedImage[] = [];
  // One after the other: pictures that were enlarged are large.
  for (const { pixels, width, height, ...image } of drawn) {
    const size = { width, height };
    const picture = factor === undefined ? { ...size, pixels } : await upscale({ ...size, pixels }, factor);
    const drawnSize = { width: image.drawnWidth, height: image.drawnHeight };
    const record = recordOf(job, image.seed, drawnSize, result);
    images.push({
      ...image,
      width: picture.width,
      height: picture.height,
      upscaledFrom: factor && size,
      format: output.format ?? "png",
      data: await encodeImage(picture, { ...output, metadata: fittingMetadata(record, notices) }),
    });
  }
  const inputImageTokens = params.condition === undefined ? 0 : result.imageTokens;
  return { ...result, inputImageTokens, foundLoaded, notices: [...notices], images };
}

async function encodePreview(preview: Preview, output: OutputOptions): Promise<EncodedPreview> {
  const { imageIndex, previewIndex, width, height } = preview;
  const metadata = { sourceType: "trainedAlgorithmicMedia" } as const;
  const data = await encodeImage(preview, { ...output, metadata });
  return { imageIndex, previewIndex, width, height, format: output.format ?? "png", data };
}

/** The metadata for `record`'s own format, without the prompts where they are too long for it. */
function fittingMetadata(record: GenerationRecord, notices: Set<string>): PictureMetadata {
  const metadata = pictureMetadata(record);
  if (metadataFits(metadata, record.output_format)) return metadata;
  notices.add("The prompt is too long for a JPEG's metadata and was left out of it.");
  const { prompt: _, negative_prompt: __, ...rest } = record;
  return pictureMetadata(rest);
}

function send(message: FromEngineProcess): void {
  // The callback keeps a parent that has just gone from becoming an uncaught error here.
  process.send?.(message, undefined, undefined, () => {});
}
