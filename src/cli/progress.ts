/** The progress of work on stderr: a bar on a terminal, a few plain lines elsewhere. */
import type { GenerationEvent } from "../engine/engine.ts";
import { deviceTitles } from "../onnx/devices.ts";
import { formatBytes } from "../weights/hub/byte-size.ts";

const barWidth = 24;
/** Without a terminal, of a picture or another piece of work. */
const linesPerWork = 4;

export interface ProgressOptions {
  model: string;
  numImages: number;
  /** What is done, and what its parts are called. Default: drawing, in steps. */
  words?: { doing: string; step: string } | undefined;
  stream?: NodeJS.WriteStream;
}

/** Shows `events` until they end. */
export async function showProgress(
  events: AsyncIterable<GenerationEvent>,
  { model, numImages, words = { doing: "Drawing", step: "step" }, stream = process.stderr }: ProgressOptions,
): Promise<void> {
  const clear = "\r\x1b[K";
  let convertedBytes = 0;
  for await (const event of events) {
    if (event.type === "started") {
      stream.write(stream.isTTY ? `Loading ${model}...` : `Loading ${model}\n`);
    } else if (event.type === "conversion") {
      const { writtenBytes, totalBytes } = event;
      const text = `Converting the weights, this once: ${formatBytes(writtenBytes)} of ${formatBytes(totalBytes)}`;
      if (stream.isTTY) stream.write(`${clear}${text}`);
      else if (crossesPart(writtenBytes, totalBytes, convertedBytes)) stream.write(`${text}\n`);
      convertedBytes = writtenBytes;
    } else if (event.type === "device" && event.reason !== undefined) {
      const choice = `Computing on ${deviceTitles[event.device]}: ${event.reason}`;
      stream.write(stream.isTTY ? `${clear}${choice}...` : `${choice}\n`);
    } else if (event.type === "progress") {
      const { imageIndex, step, steps } = event;
      const image = numImages > 1 ? `Image ${imageIndex + 1} of ${numImages}` : words.doing;
      if (stream.isTTY) {
        const filled = Math.round((barWidth * step) / steps);
        const bar = "█".repeat(filled) + "░".repeat(barWidth - filled);
        stream.write(`${clear}${image} ${bar} ${words.step} ${step} of ${steps}`);
      } else if (crossesPart(step, steps, step - 1)) {
        stream.write(`${image}: ${words.step} ${step} of ${steps}\n`);
      }
    }
  }
  if (stream.isTTY) stream.write(clear);
}

/** Whether a line is due at `now` of `all`, after `before`. */
function crossesPart(now: number, all: number, before: number): boolean {
  const part = (count: number) => Math.floor((count * linesPerWork) / all);
  return now > 0 && part(now) > part(before);
}
