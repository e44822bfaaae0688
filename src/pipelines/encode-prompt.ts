/** A prompt → what conditions the transformer: T5's states for every token, and CLIP's summary in one vector. */
import { join } from "node:path";
import type { HostTensor, Session } from "../onnx/session.ts";
import { ConfigReader } from "../models/config-reader.ts";
import {
  type ClipTextConfig,
  clipTextEncoder,
  parseClipTextConfig,
  pooledPosition,
} from "../models/clip-text-encoder.ts";
import { parseT5Config, relativePositionBuckets, type T5Config, t5Encoder } from "../models/t5-encoder.ts";
import { ClipTokenizer } from "../tokenizers/clip-tokenizer.ts";
import { T5Tokenizer } from "../tokenizers/t5-tokenizer.ts";
import type { ScaledLora } from "../weights/lora.ts";
import type { NetworkLoader } from "./network-loader.ts";

export interface EncodedPrompt {
  /** [1, T, joint attention dim], T the maximum sequence length: padding is part of what FLUX reads. */
  promptEmbeds: HostTensor<Float32Array>;
  /** [1, pooled projection dim] */
  pooledPromptEmbeds: HostTensor<Float32Array>;
  /** What T5 read of the prompt, its end token included. */
  tokens: number;
  /** What the user must be told. */
  notices: string[];
}

interface Clip {
  tokenizer: ClipTokenizer;
  config: ClipTextConfig;
  session: Session;
}

interface T5 {
  tokenizer: T5Tokenizer;
  config: T5Config;
  session: Session;
}

export class PromptEncoder {
  readonly #clip: Clip;
  readonly #t5: T5;

  private constructor(clip: Clip, t5: T5) {
    this.#clip = clip;
    this.#t5 = t5;
  }

  /** @throws ModelInvalidError, WeightsInvalidError when a tokenizer or a text encoder cannot be used. */
  static async load(
    modelDir: string,
    loader: NetworkLoader,
    loras: readonly ScaledLora[] = [],
  ): Promise<PromptEncoder> {
    const clipDir = join(modelDir, "text_encoder");
    const clipConfig = parseClipTextConfig(ConfigReader.read(clipDir));
    const t5Dir = join(modelDir, "text_encoder_2");
    const t5Config = parseT5Config(ConfigReader.read(t5Dir));
    const clip = {
      tokenizer: ClipTokenizer.load(join(modelDir, "tokenizer")),
      config: clipConfig,
      // A hundredth of T5's size, and all of the picture's style passes through it.
      session: await loader.load("text_encoder", (weights) => clipTextEncoder(clipConfig, weights), {
        exact: true,
        loras,
      }),
    };
    const t5 = {
      tokenizer: T5Tokenizer.load(join(modelDir, "tokenizer_2")),
      config: t5Config,
      session: await loader.load("text_encoder_2", (weights) => t5Encoder(t5Config, weights), { loras }),
    };
    return new PromptEncoder(clip, t5);
  }

  async encode(prompt: string, maxSequenceLength: number): Promise<EncodedPrompt> {
    const { pooledPromptEmbeds, truncated: clipTruncated, length } = await this.#encodeClip(prompt);
    const { promptEmbeds, tokens, truncated: t5Truncated } = await this.#encodeT5(prompt, maxSequenceLength);
    const notices: string[] = [];
    if (t5Truncated) {
      notices.push(`The prompt is longer than the ${maxSequenceLength} tokens that are read; its end was ignored.`);
    } else if (clipTruncated) {
      notices.push(
        `The prompt is longer than the ${length} tokens that its summary (CLIP) takes in; T5 reads all of it.`,
      );
    }
    return { promptEmbeds, pooledPromptEmbeds, tokens, notices };
  }

  async dispose(): Promise<void> {
    await Promise.all([this.#clip.session.dispose(), this.#t5.session.dispose()]);
  }

  async #encodeClip(prompt: string) {
    const { tokenizer, config, session } = this.#clip;
    const length = Math.min(tokenizer.modelMaxLength, config.maxPositionEmbeddings);
    const { ids, truncated } = tokenizer.encode(prompt, length);
    const { last_hidden_state: states } = await session.run({
      input_ids: int64Tensor(ids, [1, length]),
      position_ids: int64Tensor(ids.keys(), [length]),
    });
    const start = pooledPosition(ids, config) * config.hiddenSize;
    const pooled = states!.data.slice(start, start + config.hiddenSize);
    return { pooledPromptEmbeds: { data: pooled, dims: [1, config.hiddenSize] }, truncated, length };
  }

  async #encodeT5(prompt: string, maxSequenceLength: number) {
    const { tokenizer, config, session } = this.#t5;
    const { ids, tokens, truncated } = tokenizer.encode(prompt, maxSequenceLength);
    const { last_hidden_state: promptEmbeds } = await session.run({
      input_ids: int64Tensor(ids, [1, maxSequenceLength]),
      relative_buckets: {
        data: relativePositionBuckets(maxSequenceLength, config),
        dims: [maxSequenceLength, maxSequenceLength],
      },
    });
    return { promptEmbeds: promptEmbeds!, tokens, truncated };
  }
}

function int64Tensor(values: Iterable<number>, dims: readonly number[]): HostTensor<BigInt64Array> {
  return { data: BigInt64Array.from([...values], BigInt), dims };
}
