/** The client: one method for each thing an Easel server does. */
import { drawingCall, upscaleCall } from "./drawing-call.ts";
import { ApiError, type ApiErrorBody } from "./errors.ts";
import { Jobs } from "./jobs.ts";
import { serverEvents } from "./server-events.ts";
import { type Call, type CallOptions, Transport, type TransportOptions, withIdempotencyKey } from "./transport.ts";
import {
  type DrawingEvent,
  type EditParams,
  type GenerateParams,
  type Model,
  Picture,
  type Pictures,
  toModel,
  toPictures,
  toUsage,
  type UpscaleParams,
  type VariationParams,
  type WireModel,
  type WirePicture,
  type WirePictures,
  type WireUsage,
} from "./types.ts";

interface WireEvent extends WirePicture {
  type?: string;
  image_index?: number;
  partial_image_index?: number;
  usage?: WireUsage;
  notices?: string[];
  error?: ApiErrorBody;
}

export class Easel {
  readonly jobs: Jobs;
  readonly #transport: Transport;

  constructor(options: TransportOptions = {}) {
    this.#transport = new Transport(options);
    this.jobs = new Jobs(this.#transport);
  }

  /**
   * Draws pictures from a prompt.
   *
   * @example
   * const { images } = await easel.generate({ prompt: "A white cat resting in Rome", size: "512x512" });
   * await writeFile("cat.png", images[0].bytes);
   */
  async generate(params: GenerateParams, options: CallOptions = {}): Promise<Pictures> {
    return await this.#draw({ ...drawingCall(params), ...options });
  }

  /**
   * Draws, and shows each picture on the way. With an `image` it starts from that.
   *
   * @example
   * for await (const event of easel.stream({ prompt: "a red boat", partialImages: 2 })) show(event.image);
   */
  stream(
    params: (GenerateParams | EditParams | VariationParams) & { partialImages?: 0 | 1 | 2 | 3 },
    options: CallOptions = {},
  ): AsyncGenerator<DrawingEvent> {
    const { partialImages = 0, ...rest } = params;
    return this.#watch({ ...drawingCall(rest, { stream: true, partialImages }), ...options });
  }

  /** Draws anew from a picture: all of it, or where the mask is transparent. */
  async edit(params: EditParams, options: CallOptions = {}): Promise<Pictures> {
    return await this.#draw({ ...drawingCall(params), ...options });
  }

  /** Other pictures like this one. */
  async variations(params: VariationParams, options: CallOptions = {}): Promise<Pictures> {
    return await this.#draw({ ...drawingCall(params), ...options });
  }

  /** Enlarges a picture two or four times. */
  async upscale(params: UpscaleParams, options: CallOptions = {}): Promise<Picture> {
    const { images } = await this.#draw({ ...upscaleCall(params), ...options });
    return images[0]!;
  }

  /** The models that this key may use, with their sizes and limits. */
  async models(options: CallOptions = {}): Promise<Model[]> {
    const { data } = await this.#transport.json<{ data: WireModel[] }>({ method: "GET", path: "/models", ...options });
    return data.map(toModel);
  }

  async #draw(call: Call): Promise<Pictures> {
    return toPictures(await this.#transport.json<WirePictures>(withIdempotencyKey(call)));
  }

  async *#watch(call: Call): AsyncGenerator<DrawingEvent> {
    const response = await this.#transport.stream(withIdempotencyKey(call));
    for await (const { event, data } of serverEvents(response, call.signal)) {
      if (data === "[DONE]") return;
      const body = JSON.parse(data) as WireEvent;
      if (event === "error" || body.error !== undefined) {
        const requestId = response.headers.get("x-request-id") ?? undefined;
        throw new ApiError(body.error ?? { message: "The stream ended with an error." }, undefined, requestId);
      }
      const image = new Picture(body);
      const { image_index: imageIndex = 0, notices = [] } = body;
      if (body.type?.endsWith(".partial_image") === true) {
        yield { type: "partial", imageIndex, index: body.partial_image_index ?? 0, image };
      } else {
        yield { type: "completed", imageIndex, image, usage: toUsage(body.usage), notices };
      }
    }
  }
}
