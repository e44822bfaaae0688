/**
 * Larger pictures by a network, tile by tile: how much memory it takes depends on the tile, not on the picture. Follows
 * Real-ESRGAN's `RealESRGANer`, but for tiles whose surroundings are wide enough that no seam can show.
 */
import { readFileSync, statSync } from "node:fs";
import { basename, dirname } from "node:path";
import { CancelledError, InvalidRequestError, ModelInvalidError } from "../errors.ts";
import type { GrayImage, RgbImage } from "../images/rgb-image.ts";
import { type UpscaleFactor, upscaleFactors } from "../images/upscale.ts";
import { readUpscalerNetwork } from "../models/upscaler-network.ts";
import { chooseDevice } from "../onnx/device-choice.ts";
import type { DeviceName } from "../onnx/devices.ts";
import { Session } from "../onnx/session.ts";
import { type Area, tilesOf } from "./tiles.ts";

export interface UpscalePipelineOptions {
  /** A `.safetensors` file of a network that Easel knows, or an `.onnx` file of any. */
  file: string;
  /** Default "auto". */
  device?: DeviceName | undefined;
  /** CPU threads; 0 or omitted: all cores. */
  threads?: number | undefined;
  /** Largest side of a tile with its surroundings. Default: what keeps the network's memory near 320 MB. */
  maxTileSide?: number | undefined;
}

export interface EnlargeOptions {
  signal?: AbortSignal | undefined;
  /** Tiles finished and in all. */
  onProgress?: ((progress: { step: number; steps: number }) => void) | undefined;
}

/** A picture and, where it has one, its transparency. */
export interface Picture {
  image: RgbImage;
  alpha: GrayImage | undefined;
}

/** What is known of a loaded network. */
interface Network {
  session: Session;
  input: string;
  output: string;
  factor: number;
  sideMultiple: number;
  context: number;
  maxTileSide: number;
}

/** Lets RealESRGAN_x4plus see a picture of 256 pixels in four tiles. */
const workingBytes = 320e6;
/** A network of less than this, such as the built-in ones, is quick on any processor. */
const smallNetworkBytes = 1e6;
/** Smaller tiles would be mostly surroundings; a larger one would keep a cancellation waiting. */
const [leastTileSide, mostTileSide] = [96, 384];
/** Of an ONNX file's network, which does not tell how far it looks: as for the large known ones. */
const unknownNetwork = { context: 32, tileSide: 192, probeSide: 64 };

export class UpscalePipeline {
  readonly #network: Network;

  private constructor(network: Network) {
    this.#network = network;
  }

  /**
   * @throws ModelInvalidError, WeightsInvalidError when the file cannot be used.
   * @throws EaselError `device_unavailable`.
   */
  static async load({ file, maxTileSide, ...options }: UpscalePipelineOptions): Promise<UpscalePipeline> {
    const fileBytes = statSync(file, { throwIfNoEntry: false })?.size ?? 0;
    const { device, attentionOnCpu } = await chooseDevice(options.device ?? "auto", {
      small: fileBytes < smallNetworkBytes,
      cpuFormat: undefined,
      needsHalfPrecision: false,
      gpuBytes: fileBytes + workingBytes,
    });
    const sessionOptions = { device, attentionOnCpu, threads: options.threads ?? 0 };
    if (file.toLowerCase().endsWith(".onnx")) {
      const model = readFileSync(file);
      const graph = { model, externalDataDir: dirname(file), weightBytes: model.length };
      const session = await Session.create(graph, sessionOptions);
      return new UpscalePipeline(await probe(session, basename(file), maxTileSide));
    }
    const { graph, factor, sideMultiple, context, valuesPerPixel } = readUpscalerNetwork(file);
    const session = await Session.create(graph(), sessionOptions);
    const side = Math.floor(Math.sqrt(workingBytes / (4 * valuesPerPixel)));
    return new UpscalePipeline({
      session,
      input: "image",
      output: "enlarged",
      factor,
      sideMultiple,
      context,
      maxTileSide: maxTileSide ?? Math.min(mostTileSide, Math.max(leastTileSide, side)),
    });
  }

  /**
   * The picture with each side `scale` times as long. A network that enlarges more than that is reduced by averaging; one
   * that enlarges less is applied again. Transparency is enlarged by the same network, as a picture of its own.
   *
   * @throws InvalidRequestError when the network's factor does not lead to `scale`.
   * @throws CancelledError between two tiles, when `signal` aborts.
   */
  async enlarge({ image, alpha }: Picture, scale: UpscaleFactor, options: EnlargeOptions = {}): Promise<Picture> {
    const passes = planPasses(this.#network.factor, scale);
    let current: RgbImage[] = [image, ...(alpha ? [asRgb(alpha)] : [])];
    const steps = this.#countTiles(image, passes) * current.length;
    let step = 0;
    const onTile = () => options.onProgress?.({ step: ++step, steps });
    for (const reduction of passes) {
      const enlarged: RgbImage[] = [];
      for (const picture of current) enlarged.push(await this.#pass(picture, reduction, onTile, options.signal));
      current = enlarged;
    }
    const [largeImage, largeAlpha] = current;
    return { image: largeImage!, alpha: alpha && withinNeighbours(asGray(largeAlpha!), alpha) };
  }

  async dispose(): Promise<void> {
    await this.#network.session.dispose();
  }

  #tiles({ width, height }: Size) {
    const { maxTileSide, context, sideMultiple: multiple } = this.#network;
    return tilesOf(width, height, { maxSide: Math.max(maxTileSide, 3 * context), context, multiple });
  }

  #countTiles({ width, height }: Size, passes: readonly number[]): number {
    let size = { width, height };
    let tiles = 0;
    for (const reduction of passes) {
      tiles += this.#tiles(size).length;
      const growth = this.#network.factor / reduction;
      size = { width: size.width * growth, height: size.height * growth };
    }
    return tiles;
  }

  /** Once through the network, then averaged in blocks of `reduction` pixels. */
  async #pass(picture: RgbImage, reduction: number, onTile: () => void, signal: AbortSignal | undefined) {
    const { session, input, output, factor, sideMultiple } = this.#network;
    const growth = factor / reduction;
    const size = { width: picture.width * growth, height: picture.height * growth };
    const large: RgbImage = { ...size, pixels: new Uint8Array(3 * size.width * size.height) };
    for (const { core, seen } of this.#tiles(picture)) {
      await stopIfCancelled(signal);
      const [height, width] = [seen.height, seen.width].map((side) => Math.ceil(side / sideMultiple) * sideMultiple);
      const data = toPlanes(picture, seen, width!, height!);
      const results = await session.run({ [input]: { data, dims: [1, 3, height!, width!] } });
      const planes = { data: results[output]!.data, width: width! * factor, height: height! * factor };
      const from = { x: (core.left - seen.left) * growth, y: (core.top - seen.top) * growth };
      const to = { left: core.left * growth, top: core.top * growth };
      paste(planes, from, large, { ...to, width: core.width * growth, height: core.height * growth }, reduction);
      onTile();
    }
    return large;
  }
}

interface Size {
  width: number;
  height: number;
}

/** For each pass the factor by which its result is reduced. Throws `invalid_request`. */
function planPasses(factor: number, scale: UpscaleFactor): number[] {
  if (factor % scale === 0) return [factor / scale];
  if (factor ** 2 === scale) return [1, 1];
  const possible = upscaleFactors.filter((wish) => factor % wish === 0 || factor ** 2 === wish);
  const advice = possible.length === 0 ? "use another network" : `ask for ${possible.join(" or ")}`;
  throw new InvalidRequestError("scale", `scale cannot be ${scale}: this network enlarges ${factor} times; ${advice}.`);
}

/** What an ONNX file's network does, found out by trying it. Throws `ModelInvalidError`. */
async function probe(session: Session, name: string, maxTileSide: number | undefined): Promise<Network> {
  const refuse = async (problem: string): Promise<never> => {
    await session.dispose();
    throw new ModelInvalidError(`${name} cannot enlarge pictures: ${problem}.`);
  };
  const [input, ...others] = session.inputs;
  const [output] = session.outputs;
  if (input === undefined || output === undefined || others.length > 0) {
    return await refuse(`it takes ${session.inputs.length} inputs, not one picture`);
  }
  if (input.dtype !== "float32" || output.dtype !== "float32") {
    return await refuse(`it works on ${input.dtype}; export it with float32 inputs and outputs`);
  }
  const [, channels, ...sides] = input.dims;
  if (sides.length !== 2 || channels !== 3 || sides.some((side) => typeof side === "number" && side > 0)) {
    const shape = input.dims.map(String).join(", ");
    return await refuse(
      `its input has the shape [${shape}]; export it as [1, 3, height, width] with both sides dynamic`,
    );
  }
  const { context, tileSide, probeSide } = unknownNetwork;
  const grey = new Float32Array(3 * probeSide ** 2).fill(0.5);
  const results = await session.run({ [input.name]: { data: grey, dims: [1, 3, probeSide, probeSide] } });
  const { dims } = results[output.name]!;
  const factor = dims[2]! / probeSide;
  if (dims.length !== 4 || dims[1] !== 3 || dims[2] !== dims[3] || !Number.isInteger(factor) || factor < 2) {
    return await refuse(`it makes [${dims.join(", ")}] of [1, 3, ${probeSide}, ${probeSide}]`);
  }
  return {
    session,
    input: input.name,
    output: output.name,
    factor,
    // Many fold pixels twice or in windows of eight; sixteen serves them all.
    sideMultiple: 16,
    context,
    maxTileSide: maxTileSide ?? tileSide,
  };
}

/** An area of the picture as planes [3, height, width] in 0…1; what is beyond the area repeats its last row and column. */
function toPlanes({ pixels, width: stride }: RgbImage, area: Area, width: number, height: number): Float32Array {
  const planes = new Float32Array(3 * width * height);
  const plane = width * height;
  for (let y = 0, to = 0; y < height; y++) {
    const row = (area.top + Math.min(y, area.height - 1)) * stride + area.left;
    for (let x = 0; x < width; x++, to++) {
      const from = 3 * (row + Math.min(x, area.width - 1));
      planes[to] = pixels[from]! / 255;
      planes[to + plane] = pixels[from + 1]! / 255;
      planes[to + 2 * plane] = pixels[from + 2]! / 255;
    }
  }
  return planes;
}

/**
 * Rounds planes [3, height, width], from (x, y) · `reduction` on and averaged in blocks of `reduction` pixels, into an area of
 * a picture.
 */
function paste(
  { data, width, height }: Size & { data: Float32Array },
  from: { x: number; y: number },
  to: RgbImage,
  area: Area,
  reduction: number,
): void {
  const plane = width * height;
  const scale = 255 / reduction ** 2;
  for (let y = 0; y < area.height; y++) {
    for (let x = 0; x < area.width; x++) {
      const target = 3 * ((area.top + y) * to.width + area.left + x);
      const source = (from.y + y) * reduction * width + (from.x + x) * reduction;
      for (let channel = 0; channel < 3; channel++) {
        let sum = 0;
        for (let dy = 0; dy < reduction; dy++) {
          const row = channel * plane + source + dy * width;
          for (let dx = 0; dx < reduction; dx++) sum += Math.min(1, Math.max(0, data[row + dx]!));
        }
        to.pixels[target + channel] = Math.round(sum * scale);
      }
    }
  }
}

function asRgb({ width, height, pixels }: GrayImage): RgbImage {
  const rgb = new Uint8Array(3 * pixels.length);
  for (let i = 0; i < pixels.length; i++) rgb.fill(pixels[i]!, 3 * i, 3 * i + 3);
  return { width, height, pixels: rgb };
}

function asGray({ width, height, pixels }: RgbImage): GrayImage {
  const gray = new Uint8Array(width * height);
  for (let i = 0; i < gray.length; i++) {
    gray[i] = Math.round((pixels[3 * i]! + pixels[3 * i + 1]! + pixels[3 * i + 2]!) / 3);
  }
  return { width, height, pixels: gray };
}

/**
 * `large` with no value beyond those of the nine nearest pixels of `small`: a network is off by a level here and there, and what
 * was all transparent or all opaque must stay so.
 */
function withinNeighbours(large: GrayImage, small: GrayImage): GrayImage {
  const factor = large.width / small.width;
  const [least, most] = [Math.min, Math.max].map((choose) => overNeighbours(small, choose));
  const pixels = large.pixels.map((value, i) => {
    const [x, y] = [i % large.width, Math.floor(i / large.width)];
    const at = Math.floor(y / factor) * small.width + Math.floor(x / factor);
    return Math.min(most![at]!, Math.max(least![at]!, value));
  });
  return { ...large, pixels };
}

/** The least or the most of each pixel and its eight neighbours. */
function overNeighbours({ width, height, pixels }: GrayImage, choose: (a: number, b: number) => number): Uint8Array {
  const along = (values: Uint8Array, step: number, position: (i: number) => number, length: number) =>
    values.map((value, i) => {
      const before = position(i) > 0 ? values[i - step]! : value;
      const after = position(i) < length - 1 ? values[i + step]! : value;
      return choose(value, choose(before, after));
    });
  const rows = along(pixels, 1, (i) => i % width, width);
  return along(rows, width, (i) => Math.floor(i / width), height);
}

/** Lets messages in (a network's run blocks the event loop), then stops if one of them was a cancellation. */
async function stopIfCancelled(signal: AbortSignal | undefined): Promise<void> {
  await new Promise((resolve) => setImmediate(resolve));
  if (signal?.aborted === true) throw new CancelledError("The enlargement was cancelled.");
}
