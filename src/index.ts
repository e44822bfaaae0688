/**
 * Easel as a library: draw pictures from a program of your own, on Node 24.
 *
 * @example
 * await using engine = Engine.start({ catalog: new ModelCatalog({ home: "easel-data" }) });
 * const generation = await engine.submit({ model: "easel-sketch", prompt: "A white cat resting in Rome" });
 * const { images } = await generation.result;
 * await writeFile("cat.png", images[0].data);
 */
export { Engine } from "./engine/engine.ts";
export type { EngineOptions, Generation, GenerationEvent, GenerationOutput } from "./engine/engine.ts";
export type { GenerationRequest } from "./engine/generation-request.ts";
export { LoraCatalog } from "./engine/lora-catalog.ts";
export type { LoraChoice } from "./engine/lora-catalog.ts";
export { UpscalerCatalog } from "./engine/upscaler-catalog.ts";
export { ModelCatalog } from "./engine/model-catalog.ts";
export type { CatalogModel, ModelCatalogOptions } from "./engine/model-catalog.ts";
export { EaselError, errorCodes } from "./errors.ts";
export type { ErrorCode } from "./errors.ts";
