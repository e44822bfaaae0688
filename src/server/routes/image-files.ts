import type { FastifyRequest } from "fastify";
import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Deliver } from "../drawing-answer.ts";
import type { ImageFiles } from "../image-files.ts";

export interface ImageFileRoutesOptions {
  files: ImageFiles;
}

/** A file's bytes, which have no schema. */
const picture = { schema: z.any() };

/** The pictures behind links. The signature is the permission: whoever shows the picture to others needs no key for it. */
export const imageFileRoutes: FastifyPluginAsyncZod<ImageFileRoutesOptions> = async (app, { files }) => {
  app.get(
    "/images/files/:name",
    {
      schema: {
        summary: "The picture behind a link that an answer gave",
        tags: ["images"],
        security: [],
        params: z.object({ name: z.string() }),
        querystring: z.object({
          expires: z.string().regex(/^\d{1,15}$/, { error: "must be a number" }),
          signature: z.string().max(100),
        }),
        response: {
          200: {
            description: "The picture's file.",
            content: { "image/png": picture, "image/jpeg": picture, "image/webp": picture },
          },
        },
      },
    },
    async ({ params, query }, reply) => {
      const expires = Number(query.expires);
      const { data, format } = await files.read({ name: params.name, expires, signature: query.signature });
      const maxAge = Math.max(0, expires - Math.floor(Date.now() / 1000));
      return await reply
        .header("content-type", `image/${format}`)
        .header("cache-control", `private, max-age=${maxAge}`)
        // Pages of other origins may show the picture; that is what links are for.
        .header("cross-origin-resource-policy", "cross-origin")
        .send(data);
    },
  );
};

/** How answers refer to pictures: under `publicUrl`, or where the request came to. */
export function linksTo(files: ImageFiles, publicUrl: string | undefined): (request: FastifyRequest) => Deliver {
  return ({ protocol, host }) => {
    const base = (publicUrl ?? `${protocol}://${host}`).replace(/\/+$/, "");
    return async ({ data, format }) => {
      const { name, expires, signature } = await files.store(data, format);
      return { url: `${base}/v1/images/files/${name}?expires=${expires}&signature=${signature}` };
    };
  };
}
