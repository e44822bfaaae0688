import type { FastifyReply, FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import type { z } from "zod";
import { readEnlargementInput } from "../../engine/enlargement-request.ts";
import type { Enlargements } from "../../engine/enlargements.ts";
import type { RequestLimits } from "../../engine/generation-request.ts";
import type { DecodeLimits } from "../../images/decode.ts";
import { clientAbort } from "../client-abort.ts";
import { type Deliver, inline } from "../drawing-answer.ts";
import { bodyNotices } from "../drawing-request.ts";
import { readForm } from "../multipart.ts";
import { imagesResponse, type ImagesResponse, imageUpscaleBody } from "../openai-schemas.ts";

export interface UpscaleRoutesOptions {
  enlargements: Enlargements;
  limits: RequestLimits;
  uploads: DecodeLimits;
  linksFor: (request: FastifyRequest) => Deliver;
}

const defaultScale = 2;

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
    (request, reply) => enlarge(request, reply, request.body),
  );

  async function enlarge(
    request: FastifyRequest,
    reply: FastifyReply,
    form: z.infer<typeof body>,
  ): Promise<ImagesResponse> {
    const waiting = { client: request.client, signal: clientAbort(reply) };
    const deliver = form.response_format === "url" ? options.linksFor(request) : inline;
    const output = { format: form.output_format ?? "png", quality: form.output_compression ?? undefined } as const;
    const input = await readEnlargementInput(form.image.data, "image", options.uploads, output);
    const { image, alpha, metadata } = input;
    const { upscaler, ...enlarged } = await options.enlargements.submit(
      { image, alpha, scale: form.scale ?? defaultScale, upscaler: form.model ?? undefined, output, metadata },
      waiting,
    );
    const notices = [...bodyNotices(form, knownFields), ...input.notices];
    const size = `${enlarged.width}x${enlarged.height}`;
    return {
      created: Math.floor(Date.now() / 1000),
      data: [
        {
          ...(await deliver(enlarged)),
          size,
          upscaled_from: `${image.width}x${image.height}`,
          upscale_method: upscaler,
        },
      ],
      size,
      quality: "auto",
      output_format: output.format,
      background: alpha === undefined ? "opaque" : "transparent",
      ...(notices.length === 0 ? {} : { notices }),
    };
  }
};
