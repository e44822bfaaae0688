import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { CatalogModel, ModelCatalog } from "../../engine/model-catalog.ts";
import { type ApiKey, mayUse, requireModel } from "../../store/keys.ts";
import { modelInfoList, modelList, modelObject } from "../openai-schemas.ts";

export interface ModelRoutesOptions {
  catalog: ModelCatalog;
}

/** The models that the key may use now, in OpenAI's and in LiteLLM's shape. */
export const modelRoutes: FastifyPluginAsyncZod<ModelRoutesOptions> = async (app, { catalog }) => {
  const listFor = async (client: ApiKey) => (await catalog.list()).filter(({ name }) => mayUse(client, name));

  app.get("/models", { schema: { response: { 200: modelList } } }, async ({ client }) => ({
    object: "list" as const,
    data: (await listFor(client)).map(describe),
  }));

  app.get(
    "/models/:model",
    { schema: { params: z.object({ model: z.string() }), response: { 200: modelObject } } },
    async ({ client, params }) => {
      requireModel(client, params.model);
      return describe(await catalog.resolve(params.model));
    },
  );

  app.get("/model/info", { schema: { response: { 200: modelInfoList } } }, async ({ client }) => ({
    data: (await listFor(client)).map(({ name }) => ({ model_name: name, model_info: { mode: "image_generation" } })),
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
