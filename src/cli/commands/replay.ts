/** `easel replay`: a picture drawn again from its own file's record, and compared with the file pixel by pixel. */
import { join } from "node:path";
import { z } from "zod";
import { type Config, loadConfig } from "../../config.ts";
import { Engine } from "../../engine/engine.ts";
import { type GenerationRequest, invalidRequest, requestFields } from "../../engine/generation-request.ts";
import { type GenerationRecord, parseRecord, pixelDigest } from "../../engine/provenance.ts";
import { CancelledError, EaselError } from "../../errors.ts";
import { decodeImage, maxDecodedSide } from "../../images/decode.ts";
import { readMetadata } from "../../images/metadata.ts";
import { resize, resizeGray } from "../../images/resize.ts";
import type { RgbImage } from "../../images/rgb-image.ts";
import type { ImageCondition } from "../../pipelines/image-conditioning.ts";
import { interpolation } from "../../engine/upscaler-catalog.ts";
import { exitCodes } from "../exit-codes.ts";
import { readImageFlags, readInputFile } from "../image-flags.ts";
import { Interruption } from "../interruption.ts";
import { chooseLoras } from "../lora-flags.ts";
import { chooseModel } from "../model-choice.ts";
import { planOutput, writeFiles } from "../output-files.ts";
import { showProgress } from "../progress.ts";

interface ReplayFlags {
  prompt?: string;
  negativePrompt?: string;
  image?: string;
  mask?: string;
  lora?: string[];
  out?: string;
  json?: true;
  model?: string;
  device?: string;
  precision?: string;
  threads?: string;
}

/** Easel's own pictures may be larger than what it takes from others. */
const anySize = { maxPixels: maxDecodedSide ** 2 };

/** How two pictures of the same size differ. */
interface Difference {
  /** Of all pixels, from 0 to 1. */
  share: number;
  /** The largest, of 255. */
  most: number;
}

/** Draws, compares, tells, and returns the exit code: 1 when the picture is another. Throws `EaselError`. */
export async function replay(path: string, flags: ReplayFlags): Promise<number> {
  using interruption = new Interruption();
  const file = readInputFile(path);
  const { image: original } = await decodeImage(file, path, anySize);
  const record = parseRecord(await readMetadata(file), path);
  const { device, threads, model: modelFlag = record.model, precision = record.precision } = flags;
  const config = loadConfig(process.env, { model: modelFlag, device, precision, threads });
  const request = requestOf(path, record, flags, config);
  const condition = await sourceOf(path, record, request.size, flags, config);
  const { pathOf } = planOutput(flags.out, 1);
  // The record says which and how strongly; flags only say where the files are.
  const { catalog: loraCatalog } = chooseLoras(flags.lora, config);
  const { catalog, name: model } = await chooseModel(config.model, config);

  await using engine = Engine.start({ ...config, cacheDir: join(config.home, "cache"), catalog, loraCatalog });
  try {
    const generation = await engine.submit({ ...request, model, condition }, { signal: interruption.signal });
    await showProgress(generation.events, { model, numImages: 1 });
    const [drawn] = (await generation.result).images;
    const { image: again } = await decodeImage(drawn!.data, "picture", anySize);
    if (flags.out !== undefined) writeFiles([{ path: pathOf(0, record.seed), data: drawn!.data }]);
    return report(path, compare(original, again), flags);
  } catch (error) {
    if (!(error instanceof CancelledError) || !interruption.signal.aborted) throw error;
    process.stderr.write("easel: interrupted.\n");
    return interruption.exitCode;
  }
}

/** What the record asks for, within the limits of any request: a file from anywhere may say anything. */
function requestOf(path: string, record: GenerationRecord, flags: ReplayFlags, config: Config) {
  const prompt = record.prompt ?? flags.prompt;
  if (prompt === undefined) {
    throw new EaselError("invalid_request", `${path} does not tell its prompt; give it with --prompt.`);
  }
  const fields = requestFields(config);
  const parsed = z
    .object({
      prompt: fields.promptOrEmpty,
      negative_prompt: fields.negativePrompt.optional(),
      size: fields.size,
      seed: fields.seed,
      steps: fields.numInferenceSteps,
      guidance_scale: fields.guidanceScale,
      true_cfg_scale: fields.trueCfgScale,
      max_sequence_length: fields.maxSequenceLength,
      step_cache: fields.stepCache.optional(),
      lora: fields.loras.optional(),
      output_compression: fields.outputQuality.optional(),
    })
    .safeParse({ ...record, prompt, negative_prompt: record.negative_prompt ?? flags.negativePrompt });
  if (!parsed.success)
    throw new EaselError("invalid_request", `${path}: ${invalidRequest(parsed.error.issues).message}`);
  const values = parsed.data;
  return {
    prompt: values.prompt,
    negativePrompt: values.negative_prompt,
    size: values.size,
    seed: values.seed,
    numInferenceSteps: values.steps,
    guidanceScale: values.guidance_scale,
    trueCfgScale: values.true_cfg_scale,
    maxSequenceLength: values.max_sequence_length,
    stepCache: values.step_cache,
    loras: values.lora,
    upscale: record.upscale,
    upscaler: record.upscale && (record.upscale_method ?? interpolation),
    output: { format: record.output_format, quality: values.output_compression },
  } satisfies Omit<GenerationRequest, "model">;
}

/** The picture that it was made from. Throws `invalid_request` when it is missing, or another. */
async function sourceOf(
  path: string,
  record: GenerationRecord,
  size: GenerationRequest["size"],
  flags: ReplayFlags,
  config: Config,
): Promise<ImageCondition | undefined> {
  if (record.image_sha256 === undefined) return undefined;
  if (flags.image === undefined || size === undefined) {
    throw new EaselError("invalid_request", `${path} was made from another picture; give that with --image.`);
  }
  const { strength } = record;
  const condition = await readImageFlags({ image: flags.image, mask: flags.mask, strength }, config);
  if (condition === undefined) return undefined;
  const { width, height } = size;
  const image = await resize(condition.image, width, height);
  if (pixelDigest(image) !== record.image_sha256) {
    throw new EaselError("invalid_request", `--image ${flags.image} is not the picture that ${path} was made from.`);
  }
  const mask = condition.mask && (await resizeGray(condition.mask, width, height));
  if ((mask && pixelDigest(mask)) !== record.mask_sha256) {
    throw new EaselError(
      "invalid_request",
      flags.mask === undefined
        ? `${path} was made with a mask; give it with --mask.`
        : `--mask ${flags.mask} is not the mask that ${path} was made with.`,
    );
  }
  return { image, mask, strength };
}

/** Undefined when they are identical. */
function compare(a: RgbImage, b: RgbImage): Difference | undefined {
  if (a.width !== b.width || a.height !== b.height) return { share: 1, most: 255 };
  let pixels = 0;
  let most = 0;
  for (let i = 0; i < a.pixels.length; i += 3) {
    let difference = 0;
    for (let channel = i; channel < i + 3; channel++) {
      difference = Math.max(difference, Math.abs(a.pixels[channel]! - b.pixels[channel]!));
    }
    if (difference > 0) pixels++;
    most = Math.max(most, difference);
  }
  return pixels === 0 ? undefined : { share: pixels / (a.width * a.height), most };
}

function report(path: string, difference: Difference | undefined, { json }: ReplayFlags): number {
  if (json) {
    const result = { file: path, identical: difference === undefined, ...difference };
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } else if (difference === undefined) {
    process.stdout.write(`${path}  identical\n`);
  } else {
    const percent = Math.max(0.01, difference.share * 100).toFixed(2);
    process.stdout.write(`${path}  different: ${percent} % of the pixels, by up to ${difference.most} of 255\n`);
  }
  return difference === undefined ? exitCodes.success : exitCodes.failure;
}
