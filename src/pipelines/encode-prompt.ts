/** A prompt → what conditions the transformer: T5's states for every token, and CLIP's summary in one vector. */
import { join } from "node:path";
import type { HostTensor } from "../onnx/session.ts";
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
import type { Network, ResidentNetworks } from "./resident-networks.ts";

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
  network: Network;
}

interface T5 {
  tokenizer: T5Tokenizer;
  config: T5Config;
  network: Network;
}

/** How many prompts are remembered: with 512 tokens of FLUX.1-dev's width each takes 8 megabytes. */
const rememberedPrompts = 16;

export class PromptEncoder {
  readonly #networks: ResidentNetworks;
  readonly #clip: Clip;
  readonly #t5: T5;
  /** The prompt that was not asked for longest comes first. */
  readonly #remembered = new Map<string, EncodedPrompt>();

  /** @throws ModelInvalidError when a tokenizer or a text encoder's configuration cannot be used. */
  constructor(modelDir: string, networks: ResidentNetworks, loras: readonly ScaledLora[] = []) {
    const clipConfig = parseClipTextConfig(ConfigReader.read(join(modelDir, "text_encoder")));
    const t5Config = parseT5Config(ConfigReader.read(join(modelDir, "text_encoder_2")));
    this.#networks = networks;
    this.#clip = {
      tokenizer: ClipTokenizer.load(join(modelDir, "tokenizer")),
      config: clipConfig,
      network: {
        place: "text_encoder",
        component: "text_encoder",
        graph: (weights) => clipTextEncoder(clipConfig, weights),
        loras,
      },
    };
    this.#t5 = {
      tokenizer: T5Tokenizer.load(join(modelDir, "tokenizer_2")),
      config: t5Config,
      network: {
        place: "text_encoder_2",
        component: "text_encoder_2",
        graph: (weights) => t5Encoder(t5Config, weights),
        loras,
      },
    };
  }

  /** Checks both networks' weights. Throws `ModelInvalidError`, `WeightsInvalidError`. */
  async prepare(): Promise<void> {
    for (const { network } of [this.#clip, this.#t5]) await this.#networks.prepare(network);
  }

  /** A prompt that was encoded lately costs nothing. */
  async encode(prompt: string, maxSequenceLength: number): Promise<EncodedPrompt> {
    const key = JSON.stringify([prompt, maxSequenceLength]);
    const encoded = this.#remembered.get(key) ?? (await this.#encode(prompt, maxSequenceLength));
    this.#remembered.delete(key);
    this.#remembered.set(key, encoded);
    for (const oldest of this.#remembered.keys()) {
      if (this.#remembered.size <= rememberedPrompts) break;
      this.#remembered.delete(oldest);
    }
    return encoded;
  }

  async #encode(prompt: string, maxSequenceLength: number): Promise<EncodedPrompt> {
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

  async #encodeClip(prompt: string) {
    const { tokenizer, config, network } = this.#clip;
    const length = Math.min(tokenizer.modelMaxLength, config.maxPositionEmbeddings);
    const { ids, truncated } = tokenizer.encode(prompt, length);
    const session = await this.#networks.get(network, workBytes(length, config.intermediateSize));
    const { last_hidden_state: states } = await session.run({
      input_ids: int64Tensor(ids, [1, length]),
      position_ids: int64Tensor(ids.keys(), [length]),
    });
    const start = pooledPosition(ids, config) * config.hiddenSize;
    const pooled = states!.data.slice(start, start + config.hiddenSize);
    return { pooledPromptEmbeds: { data: pooled, dims: [1, config.hiddenSize] }, truncated, length };
  }

  async #encodeT5(prompt: string, maxSequenceLength: number) {
    const { tokenizer, config, network } = this.#t5;
    const { ids, tokens, truncated } = tokenizer.encode(prompt, maxSequenceLength);
    const session = await this.#networks.get(network, workBytes(maxSequenceLength, config.dFf));
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

/** A few vectors of the widest layer for every token. */
function workBytes(tokens: number, width: number): number {
  return 4 * tokens * width * Float32Array.BYTES_PER_ELEMENT;
}

function int64Tensor(values: Iterable<number>, dims: readonly number[]): HostTensor<BigInt64Array> {
  return { data: BigInt64Array.from([...values], BigInt), dims };
}
