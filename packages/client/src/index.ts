/** The client of an Easel server; see README.md. */
export { Easel, type Model } from "./easel.ts";
export * from "./errors.ts";
export { type Job, type JobProgress, Jobs } from "./jobs.ts";
export { regolo, RegoloClient, type RegoloClientOptions, type RegoloImageParams } from "./regolo.ts";
export type { CallOptions, TransportOptions } from "./transport.ts";
export { Picture } from "./types.ts";
export type { DrawingEvent, DrawingOptions, EditParams, GenerateParams, Pictures, UpscaleParams } from "./types.ts";
