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

const featureMapsAtATime = 5;

export class LatentCodec {
  readonly #config: AutoencoderConfig;
  readonly #networks: ResidentNetworks;
  readonly #decoder: Network;
  readonly #encoder: Network;

  /** Reads the configuration of `modelDir`'s autoencoder. Throws `ModelInvalidError`. */
  constructor(modelDir: string, networks: ResidentNetworks) {
    const config = parseAutoencoderConfig(ConfigReader.read(join(modelDir, "vae")));
    this.#config = config;
    this.#networks = networks;
    this.#decoder = {
      place: "decoder",
      component: "vae",
      graph: (weights) => autoencoderDecoder(config, weights),
      exact: true,
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

  async decode({ data, channels, height, width }: Latents): Promise<RgbImage> {
    const { scalingFactor, shiftFactor } = this.#config;
    const z = data.map((value) => value / scalingFactor + shiftFactor);
    const { pixelsPerLatent: scale } = this;
    const size = { height: height * scale, width: width * scale };
    const decoder = await this.#networks.get(this.#decoder, this.#workBytes(size));
    const { image } = await decoder.run({ latents: { data: z, dims: [1, channels, height, width] } });
    return toRgb(image!);
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

  /** A handful of the finest level's feature maps are in memory at a time. */
  #workBytes({ height, width }: Pick<RgbImage, "height" | "width">): number {
    const channels = this.#config.blockOutChannels[0]!;
    return featureMapsAtATime * height * width * channels * Float32Array.BYTES_PER_ELEMENT;
  }
}

/** image [1, 3, H, W] in −1…1 → 8-bit pixels */
function toRgb(image: HostTensor<Float32Array>): RgbImage {
  const [, , height, width] = image.dims as [number, number, number, number];
  const plane = height * width;
  const pixels = new Uint8Array(3 * plane);
  for (let channel = 0; channel < 3; channel++) {
    for (let i = 0; i < plane; i++) {
      const value = image.data[channel * plane + i]! / 2 + 0.5;
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
