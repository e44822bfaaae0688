/**
 * The child process that draws and enlarges: it loads models, runs the pipelines and encodes the pictures.
 *
 * It is a process of its own because a network's run blocks its thread's event loop, and because a native crash or an
 * out-of-memory kill must cost one generation, not the service.
 */
import { CancelledError, serializeError } from "../errors.ts";
import { encodeImage } from "../images/encode.ts";
import { metadataFits, type PictureMetadata } from "../images/metadata.ts";
import type { Preview } from "../pipelines/flux-pipeline.ts";
import { watchTotals } from "../pipelines/model-conversion.ts";
import type {
  EncodedImage,
  EncodedPreview,
  EngineWork,
  EnlargementJob,
  EnlargementResult,
  FromEngineProcess,
  GenerationJob,
  JobResult,
  ToEngineProcess,
} from "./engine-messages.ts";
import type { OutputOptions } from "./generation-request.ts";
import { Enlarger } from "./enlarger.ts";
import { ModelPool } from "./model-pool.ts";
import { type GenerationRecord, pictureMetadata, recordOf } from "./provenance.ts";

// A terminal's Ctrl-C and a service manager's stop reach every process of the group; this one leaves with its parent.
process.on("SIGINT", () => {});
process.on("SIGTERM", () => {});
process.on("disconnect", () => process.exit());

const pool = new ModelPool();
const enlarger = new Enlarger();
let current: { id: string; controller: AbortController } | undefined;

process.on("message", (message: ToEngineProcess) => {
  if (message.type !== "cancel") void answer(message.id, message);
  else if (message.id === current?.id) current.controller.abort(new CancelledError());
});

async function answer(id: string, work: EngineWork): Promise<void> {
  const controller = new AbortController();
  current = { id, controller };
  try {
    const { signal } = controller;
    const result = work.type === "generate" ? generate(id, work.job, signal) : enlarge(id, work.job, signal);
    send({ type: "done", id, result: await result });
  } catch (error) {
    send({ type: "failed", id, error: serializeError(error) });
  } finally {
    current = undefined;
  }
}

async function generate(id: string, job: GenerationJob, signal: AbortSignal): Promise<JobResult> {
  const { params, output, upscale } = job;
  const { device, threads } = job.pipeline;
  const foundLoaded = pool.has(job.pipeline);
  const conversion = watchTotals((totals) => send({ type: "conversion", id, totals }));
  const pipeline = await pool.get(job.pipeline, { ...conversion, signal });
  if (!foundLoaded) send({ type: "device", id, choice: pipeline.device });
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
    const original = { image: { ...size, pixels }, alpha: undefined };
    const { image: picture } =
      upscale === undefined ? original : await enlarger.enlarge(original, upscale, { device, threads, signal });
    const drawnSize = { width: image.drawnWidth, height: image.drawnHeight };
    const record = recordOf(job, image.seed, drawnSize, result);
    images.push({
      ...image,
      width: picture.width,
      height: picture.height,
      upscaledFrom: upscale && size,
      upscaleMethod: upscale?.upscaler.name,
      format: output.format ?? "png",
      data: await encodeImage(picture, { ...output, metadata: fittingMetadata(record, notices) }),
    });
  }
  const inputImageTokens = params.condition === undefined ? 0 : result.imageTokens;
  return { ...result, inputImageTokens, foundLoaded, notices: [...notices], images };
}

async function enlarge(id: string, job: EnlargementJob, signal: AbortSignal): Promise<EnlargementResult> {
  const { enlarging, runtime, output, metadata, ...original } = job;
  const onProgress = (progress: { step: number; steps: number }) =>
    send({ type: "progress", id, progress: { imageIndex: 0, ...progress } });
  const { image, alpha } = await enlarger.enlarge(original, enlarging, { ...runtime, signal, onProgress });
  const data = await encodeImage(image, { ...output, alpha, metadata });
  return { width: image.width, height: image.height, format: output.format ?? "png", data };
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
