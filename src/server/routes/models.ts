import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { CatalogModel, ModelCatalog } from "../../engine/model-catalog.ts";
import { modelInfoList, modelList, modelObject } from "../openai-schemas.ts";

export interface ModelRoutesOptions {
  catalog: ModelCatalog;
}

/** The models that can be used now, in OpenAI's and in LiteLLM's shape. */
export const modelRoutes: FastifyPluginAsyncZod<ModelRoutesOptions> = async (app, { catalog }) => {
  app.get("/models", { schema: { response: { 200: modelList } } }, async () => ({
    object: "list" as const,
    data: (await catalog.list()).map(describe),
  }));

  app.get(
    "/models/:model",
    { schema: { params: z.object({ model: z.string() }), response: { 200: modelObject } } },
    async ({ params }) => describe(await catalog.resolve(params.model)),
  );

  app.get("/model/info", { schema: { response: { 200: modelInfoList } } }, async () => ({
    data: (await catalog.list()).map(({ name }) => ({ model_name: name, model_info: { mode: "image_generation" } })),
  }));
};

function describe({ name, origin, modifiedAt }: CatalogModel): z.infer<typeof modelObject> {
  return {
    id: name,
    object: "model",
    created: Math.floor(modifiedAt.getTime() / 1000),
    owned_by: origin === "built-in" ? "easel" : "local",
  };
}
