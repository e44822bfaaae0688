/** The client: one method for each thing an Easel server does. */
import { ApiError, type ApiErrorBody } from "./errors.ts";
import { Jobs } from "./jobs.ts";
import { serverEvents } from "./server-events.ts";
import { type Call, type CallOptions, Transport, type TransportOptions } from "./transport.ts";
import {
  type DrawingEvent,
  type DrawingOptions,
  type EditParams,
  type GenerateParams,
  Picture,
  type Pictures,
  toPictures,
  toWire,
  type UpscaleParams,
  type WirePicture,
  type WirePictures,
} from "./types.ts";

export interface Model {
  id: string;
  ownedBy: string;
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
    return await this.#draw({ method: "POST", path: "/images/generations", json: toWire(params), ...options });
  }

  /**
   * Draws one picture and shows it on the way.
   *
   * @example
   * for await (const event of easel.stream({ prompt: "a red boat", partialImages: 2 })) show(event.image);
   */
  stream(
    params: GenerateParams & { partialImages?: 0 | 1 | 2 | 3 },
    options: CallOptions = {},
  ): AsyncGenerator<DrawingEvent> {
    const { partialImages = 0, ...rest } = params;
    const json = { ...toWire(rest), stream: true, partial_images: partialImages };
    return this.#watch({ method: "POST", path: "/images/generations", json, ...options });
  }

  /** Draws anew from a picture: all of it, or where the mask is transparent. */
  async edit(params: EditParams, options: CallOptions = {}): Promise<Pictures> {
    const { image, mask, ...rest } = params;
    const form = toForm(toWire(rest), { image, mask });
    return await this.#draw({ method: "POST", path: "/images/edits", form, ...options });
  }

  /** Other pictures like this one. */
  async variations(
    params: { image: Blob | Uint8Array } & DrawingOptions,
    options: CallOptions = {},
  ): Promise<Pictures> {
    const { image, ...rest } = params;
    const form = toForm(toWire(rest), { image });
    return await this.#draw({ method: "POST", path: "/images/variations", form, ...options });
  }

  /** Enlarges a picture two or four times. */
  async upscale(params: UpscaleParams, options: CallOptions = {}): Promise<Picture> {
    const form = toForm({ scale: params.scale }, { image: params.image });
    const { images } = await this.#draw({ method: "POST", path: "/images/upscale", form, ...options });
    return images[0]!;
  }

  /** The models that this key may use. */
  async models(options: CallOptions = {}): Promise<Model[]> {
    const { data } = await this.#transport.json<{ data: { id: string; owned_by: string }[] }>({
      method: "GET",
      path: "/models",
      ...options,
    });
    return data.map(({ id, owned_by: ownedBy }) => ({ id, ownedBy }));
  }

  async #draw(call: Call): Promise<Pictures> {
    return toPictures(await this.#transport.json<WirePictures>(withIdempotencyKey(call)));
  }

  async *#watch(call: Call): AsyncGenerator<DrawingEvent> {
    const response = await this.#transport.send(withIdempotencyKey(call));
    for await (const { event, data } of serverEvents(response)) {
      if (data === "[DONE]") return;
      const body = JSON.parse(data) as WirePicture & {
        type?: string;
        partial_image_index?: number;
        error?: ApiErrorBody;
      };
      if (event === "error" || body.error !== undefined) {
        const requestId = response.headers.get("x-request-id") ?? undefined;
        throw new ApiError(body.error ?? { message: "The stream ended with an error." }, undefined, requestId);
      }
      const image = new Picture(body);
      if (body.type?.endsWith(".partial_image") === true) {
        yield { type: "partial", index: body.partial_image_index ?? 0, image };
      } else {
        yield { type: "completed", image };
      }
    }
  }
}

/** Trying again must not draw again: every call that draws carries a key of its own unless it was given one. */
function withIdempotencyKey(call: Call): Call {
  return { ...call, idempotencyKey: call.idempotencyKey ?? crypto.randomUUID() };
}

function toForm(fields: Record<string, unknown>, files: Record<string, Blob | Uint8Array | undefined>): FormData {
  const form = new FormData();
  for (const [name, value] of Object.entries(fields)) form.append(name, String(value));
  for (const [name, file] of Object.entries(files)) {
    if (file === undefined) continue;
    // A copy, since a view of shared memory cannot become a Blob.
    const blob = file instanceof Blob ? file : new Blob([new Uint8Array(file)]);
    form.append(name, blob, `${name}.png`);
  }
  return form;
}
