import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { maxSteps, type RequestLimits, sideMultiple } from "../../engine/generation-request.ts";
import type { CatalogModel, ModelCatalog } from "../../engine/model-catalog.ts";
import { defaultSize } from "../../engine/plan-job.ts";
import { readGenerationDefaults, readModelCard } from "../../pipelines/model-card.ts";
import { type ApiKey, mayUse, requireModel } from "../../store/keys.ts";
import { type ModelDetails, modelInfoList, modelList, modelObject } from "../openai-schemas.ts";

export interface ModelRoutesOptions {
  catalog: ModelCatalog;
  limits: RequestLimits;
  /** Largest side of an enlarged picture, in pixels. */
  maxUpscaledSide: number;
}

/** The models that the key may use now, in OpenAI's and in LiteLLM's shape. */
export const modelRoutes: FastifyPluginAsyncZod<ModelRoutesOptions> = async (app, options) => {
  const { catalog } = options;
  const tags = ["models"];
  const listFor = async (client: ApiKey) =>
    (await catalog.list()).filter(({ name }) => mayUse(client, name)).flatMap((model) => readable(model, options));

  app.get(
    "/models",
    { schema: { summary: "The models that can be used now", tags, response: { 200: modelList } } },
    async ({ client }) => ({
      object: "list" as const,
      data: (await listFor(client)).map(({ model, details }) => describe(model, details)),
    }),
  );

  app.get(
    "/models/:model",
    {
      schema: { summary: "One of them", tags, params: z.object({ model: z.string() }), response: { 200: modelObject } },
    },
    async ({ client, params }) => {
      requireModel(client, params.model);
      const model = await catalog.resolve(params.model);
      return describe(model, detailsOf(model, options));
    },
  );

  app.get(
    "/model/info",
    { schema: { summary: "The same list in LiteLLM's shape", tags, response: { 200: modelInfoList } } },
    async ({ client }) => ({
      data: (await listFor(client)).map(({ model, details }) => ({
        model_name: model.name,
        model_info: { mode: "image_generation", ...details },
      })),
    }),
  );
};

/** The model with its details, or nothing: one with a damaged configuration must not take the others out of the list. */
function readable(model: CatalogModel, options: ModelRoutesOptions): { model: CatalogModel; details: ModelDetails }[] {
  try {
    return [{ model, details: detailsOf(model, options) }];
  } catch {
    return [];
  }
}

function describe(model: CatalogModel, details: ModelDetails): z.infer<typeof modelObject> {
  return {
    id: model.name,
    object: "model",
    created: Math.floor(model.modifiedAt.getTime() / 1000),
    owned_by: model.origin === "built-in" ? "easel" : "local",
    ...details,
  };
}

function detailsOf(model: CatalogModel, { limits, maxUpscaledSide }: ModelRoutesOptions): ModelDetails {
  const { folder, license } = model;
  const defaults = readGenerationDefaults(folder);
  const { width, height } = defaultSize(model, limits);
  return {
    license: license ?? null,
    native_size: `${width}x${height}`,
    draws_any_size: readModelCard(folder).nativeSize === undefined,
    min_side: limits.minSide,
    max_side: limits.maxSide,
    side_multiple: sideMultiple,
    max_upscaled_side: maxUpscaledSide,
    max_images: limits.maxImages,
    default_steps: defaults.numInferenceSteps,
    max_steps: maxSteps,
    default_guidance_scale: defaults.guidanceScale,
    default_max_sequence_length: defaults.maxSequenceLength,
  };
}
