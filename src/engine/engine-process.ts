/**
 * The child process that draws: it loads models, runs the pipeline and encodes the pictures.
 *
 * It is a process of its own because a network's run blocks its thread's event loop, and because a native crash or an
 * out-of-memory kill must cost one generation, not the service.
 */
import { serializeError } from "../errors.ts";
import { encodePng } from "../images/encode.ts";
import type { GenerationParams } from "../pipelines/flux-pipeline.ts";
import type { FromEngineProcess, GenerationJob, JobResult, ToEngineProcess } from "./engine-messages.ts";
import { ModelPool } from "./model-pool.ts";

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
  const pipeline = await pool.get(job.pipeline);
  const { images, ...result } = await pipeline.generate(job.params, {
    signal,
    onProgress: (progress) => send({ type: "progress", id, progress }),
  });
  const encoded = images.map(async ({ pixels, ...image }) => ({
    ...image,
    format: "png" as const,
    data: await encodePng({ ...image, pixels }, metadata(job.model, job.params, image.seed, result)),
  }));
  return { ...result, images: await Promise.all(encoded) };
}

/** What a picture says about its own making, enough to draw it again. */
function metadata(
  model: string,
  params: GenerationParams,
  seed: number,
  result: Pick<JobResult, "numInferenceSteps" | "guidanceScale">,
): Record<string, string> {
  return {
    Software: "Easel",
    Description: params.prompt,
    ...(params.negativePrompt ? { "Negative Prompt": params.negativePrompt } : {}),
    Model: model,
    Seed: String(seed),
    Steps: String(result.numInferenceSteps),
    Guidance: String(result.guidanceScale),
  };
}

function send(message: FromEngineProcess): void {
  // The callback keeps a parent that has just gone from becoming an uncaught error here.
  process.send?.(message, undefined, undefined, () => {});
}
