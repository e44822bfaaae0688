/** `easel pull --precision`: the conversion that the first picture would otherwise wait for. */
import { join } from "node:path";
import { EaselError, InvalidRequestError } from "../errors.ts";
import { mayHaveGpu } from "../onnx/gpus.ts";
import { readMemory } from "../onnx/memory.ts";
import { requireMemory } from "../pipelines/memory-plan.ts";
import { convertModel, type NetworkConversion } from "../pipelines/model-conversion.ts";
import { type Precision, precisions } from "../pipelines/precision.ts";
import { ByteProgress } from "./byte-progress.ts";

interface PulledModel {
  name: string;
  /** In the layout of diffusers. */
  folder: string;
}

interface ConversionSurroundings {
  home: string;
  /** What drawing may take in all, see `readMemory`. */
  memoryLimitBytes?: number | undefined;
  signal: AbortSignal;
}

/** Throws `invalid_request` for what nothing can be converted to. */
export function parsePullPrecision(text: string | undefined): Precision | undefined {
  const precision = precisions.find((candidate) => candidate === text);
  if (precision !== undefined || text === undefined) return precision;
  throw new InvalidRequestError("--precision", `--precision must be one of ${precisions.join(", ")}, not "${text}".`);
}

/**
 * Converts a model that is here, shows how far it is on stderr, and returns what the converted weights take on the disk.
 *
 * @throws ModelInvalidError, WeightsInvalidError, EaselError `io_failed`, and the signal's reason; see `convertModel`.
 */
export async function convertPulled(
  { name, folder }: PulledModel,
  precision: Precision,
  { home, memoryLimitBytes, signal }: ConversionSurroundings,
): Promise<number> {
  using progress = new ByteProgress({ words: { doing: `Converting to ${precision}:`, part: "network" } });
  if (precision === "fp16") await tellIfWithoutGpu(progress);
  else tellIfTooLarge(folder, precision, { memoryLimitBytes, progress });
  return await convertModel(
    { modelDir: folder, precision, cacheDir: join(home, "cache") },
    {
      signal,
      onPlan: (networks) => progress.onEvent({ type: "plan", files: networks.map(toFile) }),
      onProgress: (network) => progress.onEvent({ type: "bytes", ...toFile(network) }),
      onWaiting: (component) =>
        progress.notice(`Another easel is converting the ${component} of ${name}; waiting for it.`),
    },
  );
}

async function tellIfWithoutGpu(progress: ByteProgress): Promise<void> {
  if (await mayHaveGpu()) return;
  progress.notice(
    "There is no GPU here. fp16 is for GPUs; the CPU gains neither time nor memory by it. int8 saves both there.",
  );
}

/** Converting takes little memory: a model may be prepared here for another time or machine. But it should be known. */
function tellIfTooLarge(
  folder: string,
  precision: Precision,
  { memoryLimitBytes, progress }: { memoryLimitBytes: number | undefined; progress: ByteProgress },
): void {
  const { totalBytes } = readMemory({ limitBytes: memoryLimitBytes });
  try {
    requireMemory(folder, precision, { availableBytes: totalBytes, totalBytes });
  } catch (error) {
    if (!(error instanceof EaselError) || error.code !== "insufficient_memory") throw error;
    progress.notice(error.message);
  }
}

function toFile({ component, writtenBytes, totalBytes }: NetworkConversion) {
  return { path: component, sizeBytes: totalBytes, receivedBytes: writtenBytes };
}
