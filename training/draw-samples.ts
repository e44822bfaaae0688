/**
 * Draws the sample prompts with Easel itself, seed 0 each, nothing picked or retouched, into one sheet of four columns:
 *
 *     npx node training/draw-samples.ts [OUT.png]
 */
import { readFileSync } from "node:fs";
import { join } from "node:path";
import sharp from "sharp";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";

const root = join(import.meta.dirname, "..");
const out = process.argv[2] ?? join(root, "models/easel-sketch/samples.png");
const prompts = readFileSync(join(root, "training/sample-prompts.txt"), "utf8").split("\n").filter(Boolean);
const side = 256;
const gap = 8;
const columns = 4;

const pipeline = await FluxPipeline.load({ modelDir: join(root, "models/easel-sketch") });
const pictures: sharp.OverlayOptions[] = [];
for (const [i, prompt] of prompts.entries()) {
  const { images } = await pipeline.generate({ prompt, width: side, height: side, seed: 0, numImages: 1 });
  pictures.push({
    input: Buffer.from(images[0]!.pixels),
    raw: { width: side, height: side, channels: 3 },
    left: gap + (i % columns) * (side + gap),
    top: gap + Math.floor(i / columns) * (side + gap),
  });
  console.log(`${prompt}`);
}
const rows = Math.ceil(prompts.length / columns);
const sheet = { width: gap + columns * (side + gap), height: gap + rows * (side + gap) };
await sharp({ create: { ...sheet, channels: 3, background: "white" } })
  .composite(pictures)
  .png({ compressionLevel: 9 })
  .toFile(out);
