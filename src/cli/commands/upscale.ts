/** `easel upscale`: one picture enlarged by the same engine that the server uses, saved to a file. */
import { basename, extname } from "node:path";
import { z } from "zod";
import { loadConfig } from "../../config.ts";
import { Engine } from "../../engine/engine.ts";
import { readEnlargementInput } from "../../engine/enlargement-request.ts";
import { invalidRequest, requestFields } from "../../engine/generation-request.ts";
import { ModelCatalog } from "../../engine/model-catalog.ts";
import { CancelledError } from "../../errors.ts";
import { builtInUpscaler } from "../../pipelines/built-in-upscaler.ts";
import { exitCodes } from "../exit-codes.ts";
import { readInputFile } from "../image-flags.ts";
import { Interruption } from "../interruption.ts";
import { formatsByExtension, planOutput, writeFiles } from "../output-files.ts";
import { showProgress } from "../progress.ts";
import { chooseUpscaler } from "../upscaler-files.ts";

interface UpscaleFlags {
  scale?: string;
  model?: string;
  compression?: string;
  out?: string;
  json?: true;
  device?: string;
  threads?: string;
}

/** Enlarges, saves, tells, and returns the exit code. Throws `EaselError`. */
export async function upscale(path: string, flags: UpscaleFlags): Promise<number> {
  const startedMs = performance.now();
  using interruption = new Interruption();
  const config = loadConfig(process.env, { device: flags.device, threads: flags.threads });
  const { home, hubCache, maxUploadPixels: maxPixels } = config;
  const { scale, quality } = parseFlags(flags, config);
  const extension = extname(path);
  const stem = `${basename(path, extension)}-x${scale}`;
  const { pathOf, format } = planOutput(flags.out, 1, {
    stem: () => stem,
    format: formatsByExtension[extension.toLowerCase()] ?? "png",
  });
  const output = { format, quality };
  const { notices, ...input } = await readEnlargementInput(readInputFile(path), basename(path), { maxPixels }, output);
  const { catalog: upscalers, name: upscaler } = await chooseUpscaler(flags.model, home);

  await using engine = Engine.start({ ...config, catalog: new ModelCatalog({ home, hubCache }), upscalers });
  try {
    const plan = await engine.planEnlargement({ ...input, scale, upscaler, output });
    const enlargement = engine.enqueueEnlargement(plan, { signal: interruption.signal });
    const words = { doing: "Enlarging", step: "tile" };
    await showProgress(enlargement.events, { model: upscaler ?? builtInUpscaler, numImages: 1, words });
    const { width, height, data } = await enlargement.result;
    const file = pathOf(0, 0);
    writeFiles([{ path: file, data }]);
    const { image } = input;
    const result = {
      file,
      size: `${width}x${height}`,
      upscaled_from: `${image.width}x${image.height}`,
      upscale_method: upscaler ?? builtInUpscaler,
    };
    const seconds = Number(((performance.now() - startedMs) / 1000).toFixed(3));
    if (flags.json) process.stdout.write(`${JSON.stringify({ ...result, notices, seconds })}\n`);
    else {
      for (const notice of notices) process.stderr.write(`${notice}\n`);
      process.stdout.write(`${file}  ${result.size}  by ${result.upscale_method}\n`);
    }
    return exitCodes.success;
  } catch (error) {
    if (!(error instanceof CancelledError) || !interruption.signal.aborted) throw error;
    process.stderr.write("easel: interrupted; nothing was saved.\n");
    return interruption.exitCode;
  }
}

function parseFlags({ scale, compression }: UpscaleFlags, limits: Parameters<typeof requestFields>[0]) {
  const fields = requestFields(limits);
  const parsed = z
    .object({ "--scale": fields.upscale.default(2), "--compression": fields.outputQuality.optional() })
    .safeParse({ "--scale": number(scale), "--compression": number(compression) });
  if (!parsed.success) throw invalidRequest(parsed.error.issues);
  return { scale: parsed.data["--scale"], quality: parsed.data["--compression"] };
}

/** A flag's number; what is none stays a text, for the schema to refuse it as it was typed. */
function number(text: string | undefined): number | string | undefined {
  const value = Number(text);
  return text === undefined || text.trim() === "" || Number.isNaN(value) ? text : value;
}
