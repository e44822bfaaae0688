/** The client of an Easel server; see README.md. */
export { Easel } from "./easel.ts";
export * from "./errors.ts";
export { type Job, type JobProgress, Jobs } from "./jobs.ts";
export { regolo, RegoloClient, type RegoloClientOptions, type RegoloImageParams } from "./regolo.ts";
export type { CallOptions, TransportOptions } from "./transport.ts";
export { Picture } from "./types.ts";
export type {
  CompletedEvent,
  DrawingEvent,
  DrawingOptions,
  EditParams,
  GenerateParams,
  Model,
  PartialEvent,
  Pictures,
  UpscaleParams,
  Usage,
  VariationParams,
} from "./types.ts";
