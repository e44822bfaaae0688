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
import { fluxTransformer, ropeTable, timeEmbeddingDim, timestepEmbedding } from "../models/flux/transformer.ts";
import { type DeviceName, type ResolvedDevice, resolveDevice } from "../onnx/devices.ts";
import type { HostTensor } from "../onnx/session.ts";
import { FlowMatchEulerScheduler } from "../schedulers/flow-match-euler.ts";
import { openLora } from "../weights/lora.ts";
import { DrawingResizer, planDrawnSize, resizingNotice, type Size } from "./drawn-size.ts";
import { type EncodedPrompt, PromptEncoder } from "./encode-prompt.ts";
import {
  addNoise,
  blend,
  defaultStrength,
  encodeCondition,
  firstStep,
  type ImageCondition,
  keepOutsideMask,
} from "./image-conditioning.ts";
import { type Latents, LatentCodec } from "./latent-codec.ts";
import { imageIds, packLatents, textIds, unpackLatents } from "./latents.ts";
import { type GenerationDefaults, generationDefaults, type ModelCard, readModelCard } from "./model-card.ts";
import { NetworkLoader } from "./network-loader.ts";
import { requireMemory } from "./memory-plan.ts";
import { availablePrecision, type Precision } from "./precision.ts";
import { type Network, ResidentNetworks } from "./resident-networks.ts";
import { TorchGenerator } from "./torch-random.ts";

export interface FluxPipelineOptions {
  /** A model folder in the diffusers layout. */
  modelDir: string;
  /** Default "auto". */
  device?: DeviceName | undefined;
  /** CPU threads; 0 or omitted: all cores. */
  threads?: number | undefined;
  /** Default "fp32". */
  precision?: Precision | undefined;
  /** Where converted weights are kept; needed for int8, and for weights that are not plain floats. */
  cacheDir?: string | undefined;
}

/** What to draw. Omitted values take the model's own defaults. */
export interface GenerationParams {
  prompt: string;
  negativePrompt?: string | undefined;
  /** Pixels of the answer. */
  width: number;
  height: number;
  numInferenceSteps?: number | undefined;
  /** What the guidance embedding is told, for models that have one. */
  guidanceScale?: number | undefined;
  /** Classifier-free guidance against the negative prompt, two passes a step when above 1. Default 4 with one, else 1. */
  trueCfgScale?: number | undefined;
  /** Image i of n is drawn with seed + i. */
  seed: number;
  numImages: number;
  maxSequenceLength?: number | undefined;
  /** Image to image and inpainting: the picture to start from. */
  condition?: ImageCondition | undefined;
  /** Adapters for the model, applied together. A request with others than the last one loads the networks anew. */
  loras?: readonly LoraFile[] | undefined;
}

/** A LoRA and how strongly to apply it. */
export interface LoraFile {
  /** A safetensors file. */
  file: string;
  /** 1: as trained; may be negative. */
  scale: number;
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
}

export interface GenerateOptions {
  signal?: AbortSignal | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  /** Previews of each image, spread evenly over its steps. Default 0. */
  previews?: number | undefined;
  /** Drawing goes on when it has settled. */
  onPreview?: ((preview: Preview) => unknown) | undefined;
}

const defaultTrueCfgScale = 4;
/** Latents along a preview's longer side: more would take long to decode. */
const maxPreviewLatents = 32;

interface PipelineParts {
  modelDir: string;
  networks: ResidentNetworks;
  scheduler: FlowMatchEulerScheduler;
  fluxConfig: FluxConfig;
  codec: LatentCodec;
  resizer: DrawingResizer;
  card: ModelCard;
  defaults: GenerationDefaults;
  device: ResolvedDevice;
}

/** What LoRAs change. */
interface Adaptable {
  /** Which LoRAs they have. */
  loraKey: string;
  promptEncoder: PromptEncoder;
  transformer: Network;
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
   * @throws EaselError `device_unavailable`, `insufficient_memory`.
   */
  static async load(options: FluxPipelineOptions): Promise<FluxPipeline> {
    const { modelDir } = options;
    const precision = availablePrecision(options.precision ?? "fp32");
    const device = await resolveDevice(options.device ?? "auto");
    const loader = new NetworkLoader({
      modelDir,
      device,
      threads: options.threads ?? 0,
      precision,
      cacheDir: options.cacheDir,
    });
    const networks = new ResidentNetworks(loader);
    checkModelIndex(modelDir);
    if (device === "cpu") requireMemory(modelDir, precision);

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
      resizer: new DrawingResizer({ device, threads: options.threads }),
      card,
      defaults: generationDefaults(card, fluxConfig),
      device,
    });
    await codec.prepare();
    await pipeline.#adaptedWith([]);
    return pipeline;
  }

  /**
   * Draws `numImages` pictures, one after the other.
   *
   * @throws InvalidRequestError when the model cannot draw what is asked for.
   * @throws CancelledError between two steps, when `signal` aborts.
   */
  async generate(params: GenerationParams, options: GenerateOptions = {}): Promise<GenerationResult> {
    const { networks, scheduler, fluxConfig, codec, card, defaults, resizer } = this.#parts;
    const numInferenceSteps = params.numInferenceSteps ?? defaults.numInferenceSteps;
    const { guidanceScale, trueCfgScale, negativePrompt } = this.#resolveGuidance(params);
    const maxSequenceLength = params.maxSequenceLength ?? defaults.maxSequenceLength;
    const granularity = 2 * codec.pixelsPerLatent;
    const drawn = planDrawnSize(params, granularity, card.nativeSize);
    const notices: string[] = this.#settingsNotices(params, drawn);

    // 1. Encode the prompt, and what to keep away from.
    await stopIfCancelled(options.signal);
    const { promptEncoder, transformer } = await this.#adaptedWith(params.loras ?? []);
    const prompt = await promptEncoder.encode(params.prompt, maxSequenceLength);
    notices.push(...prompt.notices);
    const negative =
      negativePrompt !== undefined && trueCfgScale > 1
        ? await promptEncoder.encode(negativePrompt, maxSequenceLength)
        : undefined;

    // 2. Lay out the tokens: their positions and the noise levels depend on the size alone.
    const height = 2 * (drawn.height / granularity); // latents
    const width = 2 * (drawn.width / granularity);
    const tokens = (height / 2) * (width / 2);
    const rope = this.#ropeInputs(maxSequenceLength, height / 2, width / 2);
    const guidance = fluxConfig.guidanceEmbeds
      ? { guidance: { data: timestepEmbedding(guidanceScale), dims: [1, timeEmbeddingDim] } }
      : {};
    const sigmas = scheduler.sigmas(numInferenceSteps, tokens);

    const strength = params.condition?.strength ?? defaultStrength;
    const first = params.condition === undefined ? 0 : firstStep(numInferenceSteps, strength);
    const previewSteps = spreadEvenly(options.previews ?? 0, first, numInferenceSteps);

    const images: GeneratedImage[] = [];
    for (let imageIndex = 0; imageIndex < params.numImages; imageIndex++) {
      // 3. Draw the noise; on a picture to start from, only as much as belongs to the first step.
      const seed = params.seed + imageIndex;
      const generator = new TorchGenerator(seed);
      const shape = { channels: codec.latentChannels, height, width };
      const start = params.condition && (await encodeCondition(params.condition, drawn, codec, generator));
      const noise = pack({ ...shape, data: generator.randn(shape.channels * height * width) });
      let latents = start === undefined ? noise : addNoise(start.latents, noise, sigmas[first]!);

      // 4. Denoise: follow the velocity from noise (sigma 1) to picture (sigma 0).
      for (let step = first; step < numInferenceSteps; step++) {
        await stopIfCancelled(options.signal);
        const sigma = sigmas[step]!;
        const nextSigma = sigmas[step + 1]!;
        const velocityFor = async (text: EncodedPrompt): Promise<Float32Array> => {
          const session = await networks.get(transformer, transformerWorkBytes(fluxConfig, maxSequenceLength + tokens));
          const { velocity } = await session.run({
            img: { data: latents, dims: [1, tokens, fluxConfig.inChannels] },
            txt: text.promptEmbeds,
            pooled: text.pooledPromptEmbeds,
            timestep: { data: timestepEmbedding(sigma), dims: [1, timeEmbeddingDim] },
            ...guidance,
            ...rope,
          });
          return velocity!.data;
        };
        let velocity = await velocityFor(prompt);
        if (negative !== undefined) velocity = guide(await velocityFor(negative), velocity, trueCfgScale);
        const previewIndex = previewSteps.indexOf(step);
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
      images.push({ ...picture, seed, drawnWidth: drawn.width, drawnHeight: drawn.height });
    }
    return {
      images,
      notices,
      numInferenceSteps,
      guidanceScale,
      trueCfgScale,
      maxSequenceLength,
      promptTokens: prompt.tokens + (negative?.tokens ?? 0),
      imageTokens: tokens,
      device: this.#parts.device,
    };
  }

  /** Gives the networks' memory back; the pipeline cannot be used afterwards. */
  async dispose(): Promise<void> {
    await this.#parts.networks.dispose();
    await this.#parts.resizer.dispose();
  }

  /** The text encoders and the transformer with these LoRAs, checked. */
  async #adaptedWith(files: readonly LoraFile[]): Promise<Adaptable> {
    const loraKey = JSON.stringify(files);
    if (this.#adaptable?.loraKey === loraKey) return this.#adaptable;
    const { modelDir, networks, fluxConfig } = this.#parts;
    const loras = files.map(({ file, scale }) => ({ lora: openLora(file), scale }));
    const promptEncoder = new PromptEncoder(modelDir, networks, loras);
    const transformer: Network = {
      place: "transformer",
      component: "transformer",
      graph: (weights) => fluxTransformer(fluxConfig, weights),
      loras,
    };
    await promptEncoder.prepare();
    await networks.prepare(transformer);
    this.#adaptable = { loraKey, promptEncoder, transformer };
    return this.#adaptable;
  }

  #ropeInputs(textLength: number, rows: number, columns: number): Record<string, HostTensor> {
    const { axesDimsRope, attentionHeadDim } = this.#parts.fluxConfig;
    const ids = concatenate(textIds(textLength), imageIds(rows, columns)); // [T+I, 3]
    const { cos, sin } = ropeTable(ids, axesDimsRope);
    const dims = [ids.length / 3, attentionHeadDim / 2];
    return { pe_cos: { data: cos, dims }, pe_sin: { data: sin, dims } };
  }

  /** What guides a request: the embedded scale, and classifier-free guidance against a negative prompt. */
  #resolveGuidance(params: GenerationParams) {
    const { card, defaults, fluxConfig } = this.#parts;
    const guidanceScale = params.guidanceScale ?? defaults.guidanceScale;
    if (card.trueCfgScale === undefined) {
      const { negativePrompt } = params;
      const trueCfgScale = params.trueCfgScale ?? (negativePrompt === undefined ? 1 : defaultTrueCfgScale);
      return { guidanceScale, trueCfgScale, negativePrompt };
    }
    // Without an embedded scale, the guidance that is asked for can only be the classifier-free one.
    const asked = params.trueCfgScale ?? (fluxConfig.guidanceEmbeds ? undefined : params.guidanceScale);
    return { guidanceScale, trueCfgScale: asked ?? card.trueCfgScale, negativePrompt: params.negativePrompt ?? "" };
  }

  #settingsNotices(params: GenerationParams, drawn: Size): string[] {
    const notices: string[] = [];
    const resizing = resizingNotice(drawn, params);
    if (resizing !== undefined) notices.push(resizing);
    if (this.#parts.card.nativeSize !== undefined && drawn.width !== drawn.height) {
      notices.push("This model has learnt squares only; in other shapes things repeat.");
    }
    if (params.prompt.trim() === "")
      notices.push("The prompt is empty: the picture is whatever the model comes up with.");
    const { card, fluxConfig } = this.#parts;
    const needsCfg = card.trueCfgScale !== undefined;
    if (params.guidanceScale !== undefined && !fluxConfig.guidanceEmbeds && !needsCfg) {
      notices.push("This model takes no guidance scale; it was ignored.");
    }
    if (
      params.trueCfgScale !== undefined &&
      params.trueCfgScale > 1 &&
      params.negativePrompt === undefined &&
      !needsCfg
    ) {
      notices.push("The true CFG scale was ignored: it needs a negative prompt.");
    }
    if (params.negativePrompt !== undefined && params.trueCfgScale !== undefined && params.trueCfgScale <= 1) {
      notices.push("The negative prompt was ignored: it needs a true CFG scale above 1.");
    }
    return notices;
  }
}

function concatenate(a: Float32Array, b: Float32Array): Float32Array {
  const joined = new Float32Array(a.length + b.length);
  joined.set(a);
  joined.set(b, a.length);
  return joined;
}

/** negative + scale · (positive − negative) (Ho & Salimans 2022), rounded to float32 at each operation as torch does. */
function guide(negative: Float32Array, positive: Float32Array, scale: number): Float32Array {
  return positive.map((value, i) => {
    const base = negative[i]!;
    return base + Math.fround(scale * Math.fround(value - base));
  });
}

/** The widest layer's activations for every token, a few at a time. */
function transformerWorkBytes({ numAttentionHeads, attentionHeadDim }: FluxConfig, tokens: number): number {
  const hidden = numAttentionHeads * attentionHeadDim;
  return 16 * hidden * tokens * Float32Array.BYTES_PER_ELEMENT;
}

type LatentShape = Omit<Latents, "data">;

function pack({ data, channels, height, width }: Latents): Float32Array {
  return packLatents(data, channels, height, width);
}

function unpack(packed: Float32Array, shape: LatentShape): Latents {
  const { channels, height, width } = shape;
  return { ...shape, data: unpackLatents(packed, channels, height, width) };
}

/** The steps after which previews are shown: `count` of those from `first` to the one before the last. */
function spreadEvenly(count: number, first: number, end: number): number[] {
  return Array.from({ length: count }, (_, i) => first + Math.floor(((i + 1) * (end - first)) / (count + 1)));
}

/** Latents averaged in blocks until neither side exceeds a preview's. */
function shrink({ data, channels, height, width }: Latents): Latents {
  const factor = Math.ceil(Math.max(height, width) / maxPreviewLatents);
  if (factor === 1) return { data, channels, height, width };
  const small = { channels, height: Math.floor(height / factor), width: Math.floor(width / factor) };
  const averaged = new Float32Array(channels * small.height * small.width);
  for (let i = 0; i < averaged.length; i++) {
    const x = (i % small.width) * factor;
    const y = (Math.floor(i / small.width) % small.height) * factor;
    const channel = Math.floor(i / (small.width * small.height));
    let sum = 0;
    for (let dy = 0; dy < factor; dy++) {
      for (let dx = 0; dx < factor; dx++) sum += data[(channel * height + y + dy) * width + x + dx]!;
    }
    averaged[i] = sum / factor ** 2;
  }
  return { ...small, data: averaged };
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
