/** The upscaler: warm in the engine process, cold from the command line, and the memory of a large result. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { Engine } from "../src/engine/engine.ts";
import { ModelCatalog } from "../src/engine/model-catalog.ts";
import { interpolation, UpscalerCatalog, upscalerName } from "../src/engine/upscaler-catalog.ts";
import type { UpscaleFactor } from "../src/images/upscale.ts";
import { builtInUpscaler } from "../src/pipelines/built-in-upscaler.ts";
import { type Figure, figure, runCommand, seconds } from "./measure.ts";
import { writeRandomRrdb } from "./random-rrdb.ts";

export interface UpscaleOptions {
  rounds: number;
  /** A network to measure beside the built-in one; "random-rrdb" for one as large as RealESRGAN_x4plus. */
  model: string | undefined;
  threads: number | undefined;
}

const main = join(import.meta.dirname, "../src/cli/main.ts");

export async function benchUpscale(options: UpscaleOptions): Promise<Figure[]> {
  const scratch = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    return [...(await warmEngine(scratch, options)), ...(await commandLine(scratch, options))];
  } finally {
    rmSync(scratch, { recursive: true, force: true });
  }
}

/** From pixels to the bytes of a PNG. A small picture first loads the network. */
async function warmEngine(scratch: string, { rounds, model, threads }: UpscaleOptions): Promise<Figure[]> {
  const own = model === "random-rrdb" ? join(scratch, "random-rrdb.safetensors") : model;
  if (own !== undefined && own !== model) writeRandomRrdb(own);
  const upscalers = new UpscalerCatalog({ files: own === undefined ? [] : [own] });
  const catalog = new ModelCatalog({ home: scratch });
  await using engine = Engine.start({ catalog, upscalers, device: "cpu", threads });
  const enlarge = async (upscaler: string, side: number, scale: UpscaleFactor) => {
    const plan = await engine.planEnlargement({ image: photograph(side), alpha: undefined, scale, upscaler });
    await engine.enqueueEnlargement(plan).result;
  };
  const measure = async (upscaler: string, side: number, scale: UpscaleFactor, times: number, limit?: number) => {
    await enlarge(upscaler, 64, scale);
    const runs = [];
    for (let i = 0; i < times; i++) runs.push(await seconds(() => enlarge(upscaler, side, scale)));
    return figure(`${upscaler}, ${side}x${side} to ${side * scale}x${side * scale}, warm`, "s", runs, limit);
  };
  return [
    await measure(builtInUpscaler, 256, 2, rounds),
    await measure(builtInUpscaler, 256, 4, rounds, 1.5),
    await measure(interpolation, 256, 4, rounds),
    await measure(builtInUpscaler, 1024, 4, Math.min(rounds, 3)),
    ...(own === undefined ? [] : [await measure(upscalerName(own), 256, 4, 1)]),
  ];
}

async function commandLine(scratch: string, { rounds }: UpscaleOptions): Promise<Figure[]> {
  const small = await pngOf(scratch, 256, false);
  const large = await pngOf(scratch, 1024, true);
  const out = join(scratch, "out.png");
  const upscale = (file: string) => runCommand(process.execPath, [main, "upscale", file, "--scale", "4", "--out", out]);
  const cold = [];
  for (let i = 0; i < rounds; i++) cold.push((await upscale(small)).seconds);
  const { seconds: duration, peakMb } = await upscale(large);
  return [
    figure("easel upscale, 256x256 to 1024x1024, from the command line", "s", cold),
    figure("easel upscale, 1024x1024 with transparency to 4096x4096", "s", [duration]),
    figure("  its peak memory, both processes", "MB", [peakMb], 1500),
  ];
}

/** Grain on a gradient: a photograph is as hard to compress. */
function photograph(side: number) {
  const pixels = new Uint8Array(3 * side * side);
  let state = 1;
  for (let i = 0; i < pixels.length; i++) {
    state = (state * 48_271) % 2_147_483_647;
    pixels[i] = 100 + (100 * i) / pixels.length + (state % 21);
  }
  return { width: side, height: side, pixels };
}

async function pngOf(folder: string, side: number, transparent: boolean): Promise<string> {
  const { pixels } = photograph(side);
  const picture = sharp(pixels, { raw: { width: side, height: side, channels: 3 } });
  const file = join(folder, `${side}.png`);
  await (transparent ? picture.ensureAlpha(0.5) : picture).png().toFile(file);
  return file;
}
