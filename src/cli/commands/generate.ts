/** `easel generate`: one request through the same engine that the server uses, saved to files. */
import { join } from "node:path";
import { z } from "zod";
import { type Config, loadConfig } from "../../config.ts";
import { Engine, type GenerationOutput } from "../../engine/engine.ts";
import { invalidRequest, requestFields } from "../../engine/generation-request.ts";
import { CancelledError } from "../../errors.ts";
import { exitCodes } from "../exit-codes.ts";
import { readImageFlags } from "../image-flags.ts";
import { Interruption } from "../interruption.ts";
import { chooseLoras } from "../lora-flags.ts";
import { chooseModel } from "../model-choice.ts";
import { planOutput, writeFiles } from "../output-files.ts";
import { showProgress } from "../progress.ts";

interface GenerateFlags {
  model?: string;
  size?: string;
  n?: string;
  seed?: string;
  steps?: string;
  guidance?: string;
  negativePrompt?: string;
  trueCfgScale?: string;
  stepCache?: string;
  maxSequenceLength?: string;
  quality?: string;
  lora?: string[];
  image?: string;
  mask?: string;
  strength?: string;
  upscale?: string;
  compression?: string;
  /** False when it was denied on the command line. */
  embedPrompt?: boolean;
  out?: string;
  json?: true;
  device?: string;
  precision?: string;
  threads?: string;
}

/** Draws, saves, tells, and returns the exit code. Throws `EaselError`. */
export async function generate(prompt: string, flags: GenerateFlags): Promise<number> {
  const startedMs = performance.now();
  using interruption = new Interruption();
  const { model: modelFlag, device, precision, threads } = flags;
  const config = loadConfig(process.env, { model: modelFlag, device, precision, threads });
  const { outputQuality, strength, ...request } = parseFlags(prompt, flags, config);
  const numImages = request.numImages ?? 1;
  const { pathOf, format } = planOutput(flags.out, numImages);
  const condition = await readImageFlags({ ...flags, strength }, config);
  const output = { format, quality: outputQuality, embedPrompt: flags.embedPrompt !== false && config.embedPrompt };
  const { catalog: loraCatalog, choices: loras } = chooseLoras(flags.lora, config);
  const { catalog, name: model } = await chooseModel(config.model, config);

  await using engine = Engine.start({ ...config, cacheDir: join(config.home, "cache"), catalog, loraCatalog });
  try {
    const generation = await engine.submit(
      { ...request, model, loras, condition, output },
      { signal: interruption.signal },
    );
    await showProgress(generation.events, { model, numImages });
    const drawn = await generation.result;
    const files = drawn.images.map((image, index) => ({ path: pathOf(index, image.seed), data: image.data }));
    writeFiles(files);
    report(
      drawn,
      files.map(({ path }) => path),
      { json: flags.json, seconds: (performance.now() - startedMs) / 1000 },
    );
    return exitCodes.success;
  } catch (error) {
    if (!(error instanceof CancelledError) || !interruption.signal.aborted) throw error;
    process.stderr.write("easel: interrupted; nothing was saved.\n");
    return interruption.exitCode;
  }
}

/** The flags as a request, checked by the same schemas as the API's parameters. */
function parseFlags(prompt: string, flags: GenerateFlags, config: Config) {
  const fields = requestFields(config);
  const parsed = z
    .object({
      "The prompt": fields.promptOrEmpty,
      "--size": fields.size.optional(),
      "--n": fields.numImages.optional(),
      "--seed": fields.seed.optional(),
      "--steps": fields.numInferenceSteps.optional(),
      "--guidance": fields.guidanceScale.optional(),
      "--negative-prompt": fields.negativePrompt.optional(),
      "--true-cfg-scale": fields.trueCfgScale.optional(),
      "--max-sequence-length": fields.maxSequenceLength.optional(),
      "--step-cache": fields.stepCache.optional(),
      "--quality": fields.quality.optional(),
      "--strength": fields.strength.optional(),
      "--upscale": fields.upscale.optional(),
      "--compression": fields.outputQuality.optional(),
    })
    .safeParse({
      "The prompt": prompt,
      "--size": flags.size,
      "--n": number(flags.n),
      "--seed": number(flags.seed),
      "--steps": number(flags.steps),
      "--guidance": number(flags.guidance),
      "--negative-prompt": flags.negativePrompt,
      "--true-cfg-scale": number(flags.trueCfgScale),
      "--max-sequence-length": number(flags.maxSequenceLength),
      "--step-cache": number(flags.stepCache),
      "--quality": flags.quality,
      "--strength": number(flags.strength),
      "--upscale": number(flags.upscale),
      "--compression": number(flags.compression),
    });
  if (!parsed.success) throw invalidRequest(parsed.error.issues);
  const values = parsed.data;
  return {
    prompt: values["The prompt"],
    size: values["--size"],
    numImages: values["--n"],
    seed: values["--seed"],
    numInferenceSteps: values["--steps"],
    guidanceScale: values["--guidance"],
    negativePrompt: values["--negative-prompt"],
    trueCfgScale: values["--true-cfg-scale"],
    maxSequenceLength: values["--max-sequence-length"],
    stepCache: values["--step-cache"],
    quality: values["--quality"],
    strength: values["--strength"],
    upscale: values["--upscale"],
    outputQuality: values["--compression"],
  };
}

/** A flag's number; what is none stays a text, for the schema to refuse it as it was typed. */
function number(text: string | undefined): number | string | undefined {
  const value = Number(text);
  return text === undefined || text.trim() === "" || Number.isNaN(value) ? text : value;
}

function report(
  output: GenerationOutput,
  paths: string[],
  { json, seconds }: { json: true | undefined; seconds: number },
): void {
  const images = output.images.map(
    ({ seed, width, height, drawnWidth, drawnHeight, upscaledFrom, upscaleMethod }, index) => {
      const asked = upscaledFrom ?? { width, height };
      return {
        file: paths[index],
        seed,
        size: `${width}x${height}`,
        ...(drawnWidth === asked.width && drawnHeight === asked.height
          ? {}
          : { drawn_size: `${drawnWidth}x${drawnHeight}` }),
        ...(upscaledFrom ? { upscaled_from: `${asked.width}x${asked.height}`, upscale_method: upscaleMethod } : {}),
      };
    },
  );
  if (json) {
    const { model, device, notices, numInferenceSteps: steps, guidanceScale: guidance } = output;
    const result = { images, model, steps, guidance, device, notices, seconds: Number(seconds.toFixed(3)) };
    process.stdout.write(`${JSON.stringify(result)}\n`);
    return;
  }
  for (const notice of output.notices) process.stderr.write(`${notice}\n`);
  for (const { file, seed, size } of images) process.stdout.write(`${file}  ${size}  seed ${seed}\n`);
}
