/** The progress of work on stderr: a bar on a terminal, a few plain lines elsewhere. */
import type { GenerationEvent } from "../engine/engine.ts";
import { deviceTitles } from "../onnx/devices.ts";

const barWidth = 24;
/** Without a terminal, one line for each such part of a picture. */
const partsPerImage = 4;

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
  for await (const event of events) {
    if (event.type === "started") {
      stream.write(stream.isTTY ? `Loading ${model}...` : `Loading ${model}\n`);
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
      } else if (crossesPart(step, steps)) {
        stream.write(`${image}: ${words.step} ${step} of ${steps}\n`);
      }
    }
  }
  if (stream.isTTY) stream.write(clear);
}

function crossesPart(step: number, steps: number): boolean {
  const part = (count: number) => Math.floor((count * partsPerImage) / steps);
  return step > 0 && part(step) > part(step - 1);
}
