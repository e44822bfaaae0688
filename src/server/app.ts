/** The HTTP server, put together. */
import { randomUUID } from "node:crypto";
import fastify, { type FastifyInstance, LogController } from "fastify";
import { serializerCompiler, validatorCompiler, type ZodTypeProvider } from "fastify-type-provider-zod";
import type { Engine } from "../engine/engine.ts";
import type { RequestLimits } from "../engine/generation-request.ts";
import type { Enlargements } from "../engine/enlargements.ts";
import type { Jobs } from "../engine/jobs.ts";
import type { Database } from "../store/database.ts";
import type { JobStore } from "../store/jobs.ts";
import type { ApiKey, KeyStore } from "../store/keys.ts";
import { requireKey } from "./auth.ts";
import { browserSecurity } from "./browser-security.ts";
import { connectionOptions, giveUpUnreadAnswers, type Patience, usualPatience } from "./connections.ts";
import { sendError } from "./error-response.ts";
import { ImageFiles } from "./image-files.ts";
import { Metrics } from "./metrics.ts";
import { acceptForms } from "./multipart.ts";
import { describeRoutes } from "./openapi.ts";
import { answerWithoutRoute } from "./nothing-here.ts";
import { RateLimiter } from "./rate-limiter.ts";
import { healthRoutes } from "./routes/health.ts";
import { imageFileRoutes, linksTo } from "./routes/image-files.ts";
import { imageRoutes } from "./routes/images.ts";
import { jobRoutes } from "./routes/jobs.ts";
import { metricsRoutes } from "./routes/metrics.ts";
import { modelRoutes } from "./routes/models.ts";
import { upscaleRoutes } from "./routes/upscale.ts";
import { usageRoutes } from "./routes/usage.ts";

export interface AppOptions {
  engine: Engine;
  jobs: Jobs;
  enlargements: Enlargements;
  keys: KeyStore;
  jobStore: JobStore;
  database: Database;
  /** The model of requests that name none. */
  defaultModel: string;
  limits: RequestLimits;
  bodyLimitBytes: number;
  /** Of a file in a form. */
  uploadLimitBytes: number;
  maxUploadPixels: number;
  /** Largest side of an enlarged picture, in pixels. */
  maxUpscaledSide: number;
  /** Whether pictures tell their prompts when a request does not say. */
  embedPrompt: boolean;
  /** The data directory, for pictures behind links. */
  home: string;
  linkSeconds: number;
  /** Where clients reach the server. Default: where the request came to. */
  publicUrl?: string | undefined;
  /** Origins of web pages that may call. */
  corsOrigins: readonly string[];
  /** Whether programs on this machine need no key. Default false. */
  openLoopback?: boolean | undefined;
  /** Whether webhooks may lead to private addresses. */
  webhookAllowPrivate: boolean;
  /** Default: a minute each way. */
  patience?: Patience | undefined;
  log: { level: string; stream: { write(line: string): void } };
}

/** A server that is ready to listen. Closing it leaves the engine and the database to their owner. */
export function createApp(options: AppOptions): FastifyInstance {
  const { patience = usualPatience } = options;
  const app = fastify({
    bodyLimit: options.bodyLimitBytes,
    ...connectionOptions(patience),
    logger: options.log,
    // One line per request is written below, without query or headers; prompts and keys never reach the log.
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: () => `req_${randomUUID()}`,
    routerOptions: { ignoreTrailingSlash: true },
    rewriteUrl: ({ url }) => normalizeUrl(url ?? "/"),
    // Its 503 has another shape than OpenAI's; what still arrives during a shutdown is answered like the rest.
    return503OnClosing: false,
    frameworkErrors: (error, { id }, reply) => sendError(reply.header("x-request-id", id), error),
  }).withTypeProvider<ZodTypeProvider>();
  app.setValidatorCompiler(validatorCompiler);
  app.setSerializerCompiler(serializerCompiler);

  app.addHook("onRequest", async ({ id }, reply) => {
    reply.header("x-request-id", id);
  });
  app.addHook("onRequest", giveUpUnreadAnswers(patience));
  app.addHook("onRequest", browserSecurity(options.corsOrigins));
  answerWithoutRoute(app);
  // The last answer on each connection says so; a client that kept it open would hold the shutdown up.
  let closing = false;
  app.addHook("preClose", async () => {
    closing = true;
  });
  app.addHook("onSend", async (_request, reply) => {
    if (closing) reply.header("connection", "close");
  });
  const metrics = new Metrics(options);
  app.addHook("onResponse", async (request, reply) => {
    const { method, routeOptions } = request;
    const { statusCode: status, elapsedTime } = reply;
    metrics.answered({ method, route: routeOptions.url ?? "none", status, seconds: elapsedTime / 1000 });
    request.log.info({ method, route: routeOptions.url, status, durationMs: Math.round(elapsedTime) }, "answered");
  });
  app.setErrorHandler((error, _request, reply) => sendError(reply, error));

  const files = new ImageFiles(options);
  app.addHook("onClose", async () => files.close());
  const linksFor = linksTo(files, options.publicUrl);
  const uploads = { maxPixels: options.maxUploadPixels };

  const { keys, openLoopback = false } = options;
  const authenticate = requireKey({ keys, openLoopback, rateLimiter: new RateLimiter() });
  const api = async (scope: FastifyInstance) => {
    scope.decorateRequest("client", null as unknown as ApiKey);
    scope.addHook("onRequest", authenticate);
    await scope.register(imageRoutes, { ...options, uploads, linksFor });
    await scope.register(upscaleRoutes, { ...options, uploads, linksFor });
    await scope.register(jobRoutes, { ...options, uploads, linksFor });
    await scope.register(modelRoutes, { ...options, catalog: options.engine.catalog });
    await scope.register(usageRoutes, options);
    await scope.register(metricsRoutes, { metrics });
  };
  describeRoutes(app);
  acceptForms(app, { fileSizeBytes: options.uploadLimitBytes });
  void app.register(healthRoutes, options);
  void app.register(imageFileRoutes, { files });
  void app.register(imageFileRoutes, { files, prefix: "/v1" });
  void app.register(api);
  void app.register(api, { prefix: "/v1" });
  return app;
}

/** Mends what clients make of their base URL: `//models`, `/v1/v1/images/generations`. */
function normalizeUrl(url: string): string {
  const [path = "/", ...query] = url.split("?");
  const mended = path.replaceAll(/\/{2,}/g, "/").replace(/^(\/v1)+(?=\/|$)/, "/v1");
  return [mended, ...query].join("?");
}
