/** Pixels ↔ latents: the autoencoder with its scale and shift, loaded half by half as it is needed. */
import { join } from "node:path";
import type { RgbImage } from "../images/rgb-image.ts";
import {
  type AutoencoderConfig,
  autoencoderDecoder,
  autoencoderEncoder,
  parseAutoencoderConfig,
  pixelsPerLatent,
} from "../models/autoencoder.ts";
import { ConfigReader } from "../models/config-reader.ts";
import { BlendedPlanes, overlappingSpans, type Span } from "./blended-tiles.ts";
import type { HostTensor } from "../onnx/session.ts";
import type { Network, ResidentNetworks } from "./resident-networks.ts";
import type { TorchGenerator } from "./torch-random.ts";

/** Latents as the transformer's noise is laid out, unpacked: [1, channels, height, width] */
export interface Latents {
  data: Float32Array;
  channels: number;
  height: number;
  width: number;
}

const featureMapsAtATime = 8;

export class LatentCodec {
  readonly #config: AutoencoderConfig;
  readonly #networks: ResidentNetworks;
  readonly #decoder: Network;
  readonly #encoder: Network;
  readonly #maxDecodeBytes: number;

  /**
   * Reads the configuration of `modelDir`'s autoencoder.
   *
   * @param maxDecodeBytes what decoding may take besides the weights
   * @throws ModelInvalidError
   */
  constructor(
    modelDir: string,
    networks: ResidentNetworks,
    { maxDecodeBytes = 2e9 }: { maxDecodeBytes?: number } = {},
  ) {
    const config = parseAutoencoderConfig(ConfigReader.read(join(modelDir, "vae")));
    this.#config = config;
    this.#networks = networks;
    this.#maxDecodeBytes = maxDecodeBytes;
    this.#decoder = {
      place: "decoder",
      component: "vae",
      graph: (weights) => autoencoderDecoder(config, weights),
    };
    this.#encoder = { ...this.#decoder, place: "encoder", graph: (weights) => autoencoderEncoder(config, weights) };
  }

  /** Checks the decoder's weights. Throws `ModelInvalidError`, `WeightsInvalidError`. */
  async prepare(): Promise<void> {
    await this.#networks.prepare(this.#decoder);
  }

  get latentChannels(): number {
    return this.#config.latentChannels;
  }

  /** Pixels along a side for one latent. */
  get pixelsPerLatent(): number {
    return pixelsPerLatent(this.#config);
  }

  /**
   * Latents' picture. One that would take more than `maxDecodeBytes` at once is decoded in tiles, which fade into each other over
   * an eighth of their side; the norms see a tile where they would have seen the picture, so that it comes out a little different.
   */
  async decode({ data, channels, height, width }: Latents): Promise<RgbImage> {
    const { scalingFactor, shiftFactor } = this.#config;
    const z = { channels, height, width, data: data.map((value) => value / scalingFactor + shiftFactor) };
    const scale = this.pixelsPerLatent;
    const side = Math.floor(Math.sqrt(this.#maxDecodeBytes / this.#workBytes({ width: scale, height: scale })));
    if (height * width <= side ** 2) return toRgb(await this.#decodeTile(z), width * scale, height * scale);

    const overlap = Math.ceil(side / 8);
    const picture = new BlendedPlanes(3, width * scale, height * scale);
    for (const rows of overlappingSpans(height, side, overlap)) {
      for (const columns of overlappingSpans(width, side, overlap)) {
        const tile = await this.#decodeTile(cutOut(z, columns, rows));
        picture.add(tile, scaled(columns, scale), scaled(rows, scale), overlap * scale);
      }
    }
    return toRgb(picture.finish(), width * scale, height * scale);
  }

  /** [3, H, W] in −1…1 */
  async #decodeTile({ data, channels, height, width }: Latents): Promise<Float32Array> {
    const scale = this.pixelsPerLatent;
    const workBytes = this.#workBytes({ width: width * scale, height: height * scale });
    const decoder = await this.#networks.get(this.#decoder, workBytes);
    const { image } = await decoder.run({ latents: { data, dims: [1, channels, height, width] } });
    return image!.data;
  }

  /**
   * A picture's latents, drawn from the distribution that the encoder gives.
   *
   * @param generator gives the randomness, before anything else is drawn from it, as diffusers' `retrieve_latents` does
   */
  async encode(image: RgbImage, generator: TorchGenerator): Promise<Latents> {
    const encoder = await this.#networks.get(this.#encoder, this.#workBytes(image));
    const { moments } = await encoder.run({ image: fromRgb(image) });
    const { scalingFactor, shiftFactor, latentChannels: channels } = this.#config;
    const [, , height, width] = moments!.dims as [number, number, number, number];
    const count = channels * height * width;
    const noise = generator.randn(count);
    const data = new Float32Array(count);
    for (let i = 0; i < count; i++) {
      const logVariance = Math.min(20, Math.max(-30, moments!.data[count + i]!));
      const z = moments!.data[i]! + Math.exp(0.5 * logVariance) * noise[i]!;
      data[i] = (z - shiftFactor) * scalingFactor;
    }
    return { data, channels, height, width };
  }

  /** Eight of the finest level's feature maps: measured, where twice as many channels arrive there from the level before. */
  #workBytes({ height, width }: Pick<RgbImage, "height" | "width">): number {
    const channels = this.#config.blockOutChannels[0]!;
    return featureMapsAtATime * height * width * channels * Float32Array.BYTES_PER_ELEMENT;
  }
}

function cutOut({ data, channels, width, height }: Latents, columns: Span, rows: Span): Latents {
  const tile = new Float32Array(channels * rows.length * columns.length);
  for (let channel = 0; channel < channels; channel++) {
    for (let y = 0; y < rows.length; y++) {
      const start = (channel * height + rows.start + y) * width + columns.start;
      tile.set(data.subarray(start, start + columns.length), (channel * rows.length + y) * columns.length);
    }
  }
  return { data: tile, channels, height: rows.length, width: columns.length };
}

function scaled({ start, length }: Span, factor: number): Span {
  return { start: start * factor, length: length * factor };
}

/** image [3, H, W] in −1…1 → 8-bit pixels */
function toRgb(image: Float32Array, width: number, height: number): RgbImage {
  const plane = height * width;
  const pixels = new Uint8Array(3 * plane);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < plane; i++) {
      const value = image[channel * plane + i]! / 2 + 0.5;
      pixels[3 * i + channel] = Math.round(Math.min(1, Math.max(0, value)) * 255);
    }
  }
  return { width, height, pixels };
}

/** 8-bit pixels → image [1, 3, H, W] in −1…1 */
function fromRgb({ width, height, pixels }: RgbImage): HostTensor<Float32Array> {
  const plane = height * width;
  const data = new Float32Array(3 * plane);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < plane; i++) data[channel * plane + i] = (pixels[3 * i + channel]! / 255) * 2 - 1;
  }
  return { data, dims: [1, 3, height, width] };
}
