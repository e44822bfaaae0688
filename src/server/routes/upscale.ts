import type { FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import type { z } from "zod";
import type { RequestLimits } from "../../engine/generation-request.ts";
import { InvalidRequestError } from "../../errors.ts";
import { decodeImage, type DecodeLimits } from "../../images/decode.ts";
import { encodeImage } from "../../images/encode.ts";
import { Gate } from "../../images/gate.ts";
import { metadataFits, readMetadata } from "../../images/metadata.ts";
import { upscale, upscaleMethod } from "../../images/upscale.ts";
import { type Deliver, inline } from "../drawing-answer.ts";
import { bodyNotices } from "../drawing-request.ts";
import { readForm } from "../multipart.ts";
import { imagesResponse, type ImagesResponse, imageUpscaleBody } from "../openai-schemas.ts";

export interface UpscaleRoutesOptions {
  limits: RequestLimits;
  uploads: DecodeLimits;
  /** Largest side of the answer, in pixels. */
  maxUpscaledSide: number;
  linksFor: (request: FastifyRequest) => Deliver;
}

const defaultScale = 2;
/** A picture of 4096 × 4096 takes 50 megabytes, and its file nearly as many. */
const gate = new Gate(2);

/** `POST /images/upscale`: a picture in, the same picture larger out. */
export const upscaleRoutes: FastifyPluginAsyncZod<UpscaleRoutesOptions> = async (app, options) => {
  const body = imageUpscaleBody(options.limits);
  const knownFields = new Set(Object.keys(body.shape));

  app.post(
    "/images/upscale",
    {
      preValidation: readForm("image"),
      schema: {
        summary: "Enlarge a picture",
        tags: ["images"],
        consumes: ["multipart/form-data"],
        body,
        response: { 200: imagesResponse },
      },
    },
    (request) => enlarge(request.body, request.body.response_format === "url" ? options.linksFor(request) : inline),
  );

  async function enlarge(form: z.infer<typeof body>, deliver: Deliver): Promise<ImagesResponse> {
    const { image: file, scale, output_format: format, output_compression: quality } = form;
    const factor = scale ?? defaultScale;
    const { image, alpha } = await decodeImage(file.data, "image", options.uploads);
    const [from, to] = [image, { width: image.width * factor, height: image.height * factor }].map(
      ({ width, height }) => `${width}x${height}`,
    );
    if (Math.max(image.width, image.height) * factor > options.maxUpscaledSide) {
      throw new InvalidRequestError(
        "scale",
        `scale would make ${to} of ${from}, but the largest side is ${options.maxUpscaledSide}.`,
      );
    }
    const notices = bodyNotices(form, knownFields);
    if (alpha !== undefined) notices.push("The picture's transparent parts were laid on white.");

    const output = { format: format ?? "png", quality: quality ?? undefined } as const;
    const metadata = await keptMetadata(file.data, output.format);
    const data = await gate.run(async () => encodeImage(await upscale(image, factor), { ...output, metadata }));
    return {
      created: Math.floor(Date.now() / 1000),
      data: [
        {
          ...(await deliver({ data, format: output.format })),
          size: to!,
          upscaled_from: from!,
          upscale_method: upscaleMethod,
        } as const,
      ],
      size: to!,
      quality: "auto",
      output_format: output.format,
      background: "opaque" as const,
      ...(notices.length === 0 ? {} : { notices }),
    };
  }
};

/** That a model made a picture stays true when it is enlarged; how to draw it again does not. */
async function keptMetadata(file: Uint8Array, format: "png" | "jpeg" | "webp") {
  const { sourceType } = await readMetadata(file);
  const metadata = { sourceType };
  return sourceType !== undefined && metadataFits(metadata, format) ? metadata : undefined;
}
