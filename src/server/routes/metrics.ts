import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import type { Metrics } from "../metrics.ts";

/** What Prometheus collects. */
export const metricsRoutes: FastifyPluginAsyncZod<{ metrics: Metrics }> = async (app, { metrics }) => {
  app.get(
    "/metrics",
    { schema: { summary: "Figures for Prometheus", tags: ["operation"] } },
    async (_request, reply) => {
      reply.header("content-type", "text/plain; version=0.0.4; charset=utf-8");
      return metrics.render();
    },
  );
};
