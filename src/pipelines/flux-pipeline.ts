/**
 * Text to picture by a FLUX model: the numbered steps of `generate` are the whole of it. Follows diffusers' `FluxPipeline`
 * to the letter: the same weights, prompt, seed and settings give the same picture.
 */
import { existsSync } from "node:fs";
import { join } from "node:path";
import { CancelledError, ModelInvalidError } from "../errors.ts";
import type { RgbImage } from "../images/rgb-image.ts";
import { ConfigReader } from "../models/config-reader.ts";
import { type FluxConfig, parseFluxConfig } from "../models/flux/config.ts";
import type { DeviceChoice } from "../onnx/device-choice.ts";
import type { DeviceName, ResolvedDevice } from "../onnx/devices.ts";
import { readMemory } from "../onnx/memory.ts";
import { FlowMatchEulerScheduler } from "../schedulers/flow-match-euler.ts";
import { openLora } from "../weights/lora.ts";
import { DrawingResizer } from "./drawn-size.ts";
import { Denoiser } from "./denoiser.ts";
import { PromptEncoder } from "./encode-prompt.ts";
import { addNoise, blend, defaultStrength, encodeCondition, firstStep, keepOutsideMask } from "./image-conditioning.ts";
import { type Latents, LatentCodec } from "./latent-codec.ts";
import { packLatents, unpackLatents } from "./latents.ts";
import { type GenerationParams, type LoraFile, planGeneration } from "./generation-plan.ts";
import { previewSteps, shrink } from "./previews.ts";
import { type GenerationDefaults, generationDefaults, type ModelCard, readModelCard } from "./model-card.ts";
import { type ConversionWatch, convertModel } from "./model-conversion.ts";
import { NetworkLoader } from "./network-loader.ts";
import { requireMemory } from "./memory-plan.ts";
import type { Precision } from "./precision.ts";
import { ResidentNetworks } from "./resident-networks.ts";
import { RunPlan } from "./run-plan.ts";
import { TorchGenerator } from "./torch-random.ts";

export interface FluxPipelineOptions {
  /** A model folder in the diffusers layout. */
  modelDir: string;
  /** Default "auto". */
  device?: DeviceName | undefined;
  /** CPU threads; 0 or omitted: all cores. */
  threads?: number | undefined;
  /** Default "auto": by the device, the model's size and the memory, see `RunPlan`. */
  precision?: Precision | "auto" | undefined;
  /** What the process may take in all; default: what the system lets it. Bytes. */
  memoryLimitBytes?: number | undefined;
  /** Where converted weights are kept; needed for int8, and for weights that are not plain floats. */
  cacheDir?: string | undefined;
}

export interface Progress {
  /** 0-based image of n. */
  imageIndex: number;
  /** Steps finished and in total for this image. */
  step: number;
  steps: number;
}

/** What the picture would be if it were done now; smaller than the picture itself where decoding all of it is costly. */
export interface Preview extends RgbImage {
  /** 0-based image of n. */
  imageIndex: number;
  /** 0-based preview of this image. */
  previewIndex: number;
}

export interface GeneratedImage extends RgbImage {
  seed: number;
  /** The size the model drew; when it differs from width × height, the picture was then enlarged or reduced. */
  drawnWidth: number;
  drawnHeight: number;
}

export interface GenerationResult {
  images: GeneratedImage[];
  /** What the user must be told: what was truncated, enlarged, ignored. One sentence each. */
  notices: string[];
  /** The settings as they were used, the model's own where none were asked for. */
  numInferenceSteps: number;
  guidanceScale: number;
  trueCfgScale: number;
  maxSequenceLength: number;
  /** What T5 read of the prompt, and of the negative prompt where there is one. */
  promptTokens: number;
  /** What one picture is to the transformer: a token for each 2 × 2 latents. */
  imageTokens: number;
  device: ResolvedDevice;
  precision: Precision;
}

export interface GenerateOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Previews of each image, spread evenly over its steps. Default 0. */
  previews?: number | undefined;
  /** Drawing goes on when it has settled. */
  onPreview?: ((preview: Preview) => unknown) | undefined;
}

interface PipelineParts {
  modelDir: string;
  networks: ResidentNetworks;
  scheduler: FlowMatchEulerScheduler;
  fluxConfig: FluxConfig;
  codec: LatentCodec;
  resizer: DrawingResizer;
  card: ModelCard;
  defaults: GenerationDefaults;
  plan: RunPlan;
}

/** What LoRAs change. */
interface Adaptable {
  /** Which LoRAs they have. */
  loraKey: string;
  promptEncoder: PromptEncoder;
  denoiser: Denoiser;
}

export class FluxPipeline {
  readonly #parts: PipelineParts;
  #adaptable: Adaptable | undefined;

  private constructor(parts: PipelineParts) {
    this.#parts = parts;
  }

  /**
   * Opens a model folder, checks its networks, and converts their weights if they have to be. Each network is loaded when
   * it is first needed.
   *
   * @throws ModelInvalidError, WeightsInvalidError when the folder cannot be used.
   * @throws EaselError `device_unavailable`, `insufficient_memory`, `io_failed` when converted weights cannot be kept.
   * @throws the reason of `watch.signal` while it converts.
   */
  static async load(options: FluxPipelineOptions, watch: ConversionWatch = {}): Promise<FluxPipeline> {
    const { modelDir, cacheDir } = options;
    checkModelIndex(modelDir);
    const plan = await RunPlan.of(modelDir, options);
    const memory = () => readMemory({ limitBytes: options.memoryLimitBytes });
    if (plan.device === "cpu") requireMemory(modelDir, plan.precision, memory());
    const model = { modelDir, precision: plan.precision, cacheDir };
    await convertModel(model, watch);
    const loader = new NetworkLoader({ ...model, ...plan.sessionOptions, threads: options.threads ?? 0 });
    const { gpuMemoryBytes } = plan;
    const networks = new ResidentNetworks(loader, (loadedBytes) =>
      gpuMemoryBytes === undefined ? memory().availableBytes : gpuMemoryBytes - loadedBytes,
    );

    const transformerDir = join(modelDir, "transformer");
    const fluxConfig = parseFluxConfig(ConfigReader.read(transformerDir));
    const codec = new LatentCodec(modelDir, networks);
    if (fluxConfig.inChannels !== 4 * codec.latentChannels) {
      throw new ModelInvalidError(
        `The model's transformer takes ${fluxConfig.inChannels} channels, which is not four times its autoencoder's ` +
          `${codec.latentChannels} latent channels.`,
      );
    }
    const card = readModelCard(modelDir);
    const pipeline = new FluxPipeline({
      modelDir,
      networks,
      scheduler: FlowMatchEulerScheduler.fromConfig(
        ConfigReader.read(join(modelDir, "scheduler"), "scheduler_config.json"),
      ),
      fluxConfig,
      codec,
      resizer: new DrawingResizer({ device: plan.device, threads: options.threads }),
      card,
      defaults: generationDefaults(card, fluxConfig),
      plan,
    });
    await codec.prepare();
    await pipeline.#adaptedWith([]);
    return pipeline;
  }

  /** Where it draws, and why there. */
  get device(): DeviceChoice {
    return this.#parts.plan.choice;
  }

  /**
   * Draws `numImages` pictures, one after the other.
   *
   * @throws InvalidRequestError when the model cannot draw what is asked for.
   * @throws CancelledError between two steps, when `signal` aborts.
   */
  async generate(params: GenerationParams, options: GenerateOptions = {}): Promise<GenerationResult> {
    const { scheduler, codec, fluxConfig, resizer } = this.#parts;
    const { guidanceEmbeds } = fluxConfig;
    const granularity = 2 * codec.pixelsPerLatent;
    const settings = planGeneration(params, { ...this.#parts, guidanceEmbeds, granularity });
    const {
      drawn,
      numInferenceSteps,
      guidanceScale,
      trueCfgScale,
      negativePrompt,
      maxSequenceLength,
      stepCache,
      notices,
    } = settings;

    // 1. Encode the prompt, and what to keep away from.
    await stopIfCancelled(options.signal);
    const { promptEncoder, denoiser } = await this.#adaptedWith(params.loras ?? []);
    const prompt = await promptEncoder.encode(params.prompt, maxSequenceLength);
    notices.push(...prompt.notices);
    const negative =
      negativePrompt !== undefined ? await promptEncoder.encode(negativePrompt, maxSequenceLength) : undefined;

    // 2. Lay out the tokens: their positions and the noise levels depend on the size alone.
    const height = 2 * (drawn.height / granularity); // latents
    const width = 2 * (drawn.width / granularity);
    const tokens = (height / 2) * (width / 2);
    const sigmas = scheduler.sigmas(numInferenceSteps, tokens);

    const strength = params.condition?.strength ?? defaultStrength;
    const first = params.condition === undefined ? 0 : firstStep(numInferenceSteps, strength);
    const shownSteps = previewSteps(options.previews ?? 0, first, numInferenceSteps);

    const images: GeneratedImage[] = [];
    const passes: { all: number; reused: number }[] = [];
    for (let imageIndex = 0; imageIndex < params.numImages; imageIndex++) {
      // 3. Draw the noise; on a picture to start from, only as much as belongs to the first step.
      const seed = params.seed + imageIndex;
      const generator = new TorchGenerator(seed);
      const shape = { channels: codec.latentChannels, height, width };
      const start = params.condition && (await encodeCondition(params.condition, drawn, codec, generator));
      const noise = pack({ ...shape, data: generator.randn(shape.channels * height * width) });
      let latents = start === undefined ? noise : addNoise(start.latents, noise, sigmas[first]!);

      const denoising = denoiser.start({
        rows: height / 2,
        columns: width / 2,
        textLength: maxSequenceLength,
        guidanceScale,
        stepCache,
      });

      // 4. Denoise: follow the velocity from noise (sigma 1) to picture (sigma 0).
      for (let step = first; step < numInferenceSteps; step++) {
        await stopIfCancelled(options.signal);
        const sigma = sigmas[step]!;
        const nextSigma = sigmas[step + 1]!;
        let velocity = await denoising.velocity(latents, sigma, prompt);
        if (negative !== undefined) {
          velocity = guide(await denoising.velocity(latents, sigma, negative), velocity, trueCfgScale);
        }
        const previewIndex = shownSteps.indexOf(step);
        if (previewIndex >= 0 && options.onPreview !== undefined) {
          const estimate = unpack(scheduler.step(latents, velocity, sigma, 0), shape);
          await options.onPreview({ ...(await codec.decode(shrink(estimate))), imageIndex, previewIndex });
        }
        latents = scheduler.step(latents, velocity, sigma, nextSigma);
        if (start?.mask !== undefined) {
          latents = blend(addNoise(start.latents, noise, nextSigma), latents, start.mask);
        }
        options.onProgress?.({ imageIndex, step: step - first + 1, steps: numInferenceSteps - first });
      }

      // 5. Decode into pixels.
      await stopIfCancelled(options.signal);
      let picture = await codec.decode(unpack(latents, shape));

      // 6. Enlarge or reduce what a small model drew at its own size, and put back what was not to be repainted.
      picture = await resizer.resize(picture, params, options.signal);
      if (params.condition !== undefined) picture = await keepOutsideMask(picture, params.condition);
      passes.push(denoising.passes);
      images.push({ ...picture, seed, drawnWidth: drawn.width, drawnHeight: drawn.height });
    }
    const { plan } = this.#parts;
    notices.push(...plan.notices());
    if (stepCache > 0) notices.push(stepCacheNotice(denoiser.canCacheSteps, passes));
    return {
      images,
      notices,
      numInferenceSteps,
      guidanceScale,
      trueCfgScale,
      maxSequenceLength,
      promptTokens: prompt.tokens + (negative?.tokens ?? 0),
      imageTokens: tokens,
      device: plan.device,
      precision: plan.precision,
    };
  }

  /** Gives the networks' memory back; the pipeline cannot be used afterwards. */
  async dispose(): Promise<void> {
    await Promise.all([this.#parts.networks.dispose(), this.#parts.resizer.dispose()]);
  }

  /** The text encoders and the transformer with these LoRAs, checked. */
  async #adaptedWith(files: readonly LoraFile[]): Promise<Adaptable> {
    const loraKey = JSON.stringify(files);
    if (this.#adaptable?.loraKey === loraKey) return this.#adaptable;
    const { modelDir, networks, fluxConfig } = this.#parts;
    const loras = files.map(({ file, scale }) => ({ lora: openLora(file), scale }));
    const promptEncoder = new PromptEncoder(modelDir, networks, loras);
    const denoiser = new Denoiser(fluxConfig, networks, loras);
    await promptEncoder.prepare();
    await denoiser.prepare();
    this.#adaptable = { loraKey, promptEncoder, denoiser };
    return this.#adaptable;
  }
}

/** negative + scale · (positive − negative) (Ho & Salimans 2022), rounded to float32 at each operation as torch does. */
function guide(negative: Float32Array, positive: Float32Array, scale: number): Float32Array {
  return positive.map((value, i) => {
    const base = negative[i]!;
    return base + Math.fround(scale * Math.fround(value - base));
  });
}

function stepCacheNotice(canCacheSteps: boolean, passes: readonly { all: number; reused: number }[]): string {
  if (!canCacheSteps) return "This model has no step cache; every step was computed whole.";
  const [reused, all] = [passes.reduce((n, pass) => n + pass.reused, 0), passes.reduce((n, pass) => n + pass.all, 0)];
  return `The step cache saved most of ${reused} of ${all} passes; without it the picture would be a little different.`;
}

type LatentShape = Omit<Latents, "data">;

function pack({ data, channels, height, width }: Latents): Float32Array {
  return packLatents(data, channels, height, width);
}

function unpack(packed: Float32Array, shape: LatentShape): Latents {
  const { channels, height, width } = shape;
  return { ...shape, data: unpackLatents(packed, channels, height, width) };
}

/** Lets messages in (a network's run blocks the event loop), then stops if one of them was a cancellation. */
async function stopIfCancelled(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  if (signal?.aborted === true) throw new CancelledError();
}

/** @throws ModelInvalidError when the folder is not a FLUX model in the diffusers layout. */
function checkModelIndex(modelDir: string): void {
  if (!existsSync(modelDir)) throw new ModelInvalidError("The model's folder does not exist.");
  ConfigReader.readFile(join(modelDir, "model_index.json")).oneOf("_class_name", ["FluxPipeline"]);
}
