/**
 * Draws prompts with Easel itself, seed 0 each, nothing picked or retouched:
 *
 *     npx node training/draw-samples.ts                                            the sample prompts, into the model's samples.png
 *     npx node training/draw-samples.ts --prompts training/sheet-prompts.txt --columns 8 --sheet OUT.jpg
 *     npx node training/draw-samples.ts --prompts training/evaluation/sketch-2.json --to FOLDER
 *
 * A list of prompts has one a line, or is one of the evaluation's. `--to` writes single pictures, 0000.png and so on, and keeps those
 * that are there already, of an evaluation's list only the `--first` of each kind; `--model` is another folder than easel-sketch's;
 * `--steps` replaces the model's own number.
 */
import { existsSync, mkdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { parseArgs } from "node:util";
import sharp from "sharp";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";

const here = import.meta.dirname;
const { values: options } = parseArgs({
  options: {
    model: { type: "string", default: join(here, "../models/easel-sketch") },
    prompts: { type: "string", default: join(here, "sample-prompts.txt") },
    columns: { type: "string", default: "4" },
    steps: { type: "string" },
    sheet: { type: "string" },
    to: { type: "string" },
    first: { type: "string" },
  },
});

const side = 256;
const gap = 8;

interface Numbered {
  number: number;
  prompt: string;
}

/** All prompts of a file, with their numbers in it; of each kind of an evaluation's list the first `most`. */
function promptsIn(file: string, most: number): Numbered[] {
  const text = readFileSync(file, "utf8");
  if (!file.endsWith(".json")) return text.split("\n").filter(Boolean).map((prompt, number) => ({ number, prompt }));
  const { prompts } = JSON.parse(text) as { prompts: { prompt: string; kind: string }[] };
  const seen = new Map<string, number>();
  return prompts.flatMap(({ prompt, kind }, number) => {
    seen.set(kind, (seen.get(kind) ?? 0) + 1);
    return seen.get(kind)! > most ? [] : [{ number, prompt }];
  });
}

const pipeline = await FluxPipeline.load({ modelDir: options.model });

async function draw(prompt: string): Promise<sharp.Sharp> {
  const steps = options.steps === undefined ? {} : { numInferenceSteps: Number(options.steps) };
  const { images } = await pipeline.generate({ prompt, width: side, height: side, seed: 0, numImages: 1, ...steps });
  return sharp(images[0]!.pixels, { raw: { width: side, height: side, channels: 3 } });
}

async function drawSingly(prompts: Numbered[], folder: string): Promise<void> {
  mkdirSync(folder, { recursive: true });
  for (const { number, prompt } of prompts) {
    const file = join(folder, `${String(number).padStart(4, "0")}.png`);
    if (!existsSync(file)) await (await draw(prompt)).png().toFile(file);
  }
}

async function drawSheet(prompts: Numbered[], file: string, columns: number): Promise<void> {
  const pictures: sharp.OverlayOptions[] = [];
  for (const [i, { prompt }] of prompts.entries()) {
    const { data, info } = await (await draw(prompt)).raw().toBuffer({ resolveWithObject: true });
    pictures.push({
      input: data,
      raw: { width: info.width, height: info.height, channels: 3 },
      left: gap + (i % columns) * (side + gap),
      top: gap + Math.floor(i / columns) * (side + gap),
    });
  }
  const rows = Math.ceil(prompts.length / columns);
  const size = { width: gap + columns * (side + gap), height: gap + rows * (side + gap) };
  const sheet = sharp({ create: { ...size, channels: 3, background: "white" } }).composite(pictures);
  await (file.endsWith(".jpg") ? sheet.jpeg({ quality: 85 }) : sheet.png({ compressionLevel: 9 })).toFile(file);
}

const prompts = promptsIn(options.prompts, Number(options.first ?? Infinity));
if (options.to) await drawSingly(prompts, options.to);
if (options.sheet || !options.to) {
  await drawSheet(prompts, options.sheet ?? join(options.model, "samples.png"), Number(options.columns));
}
