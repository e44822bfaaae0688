import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Metrics } from "../metrics.ts";

const response = {
  200: { description: "Prometheus' text format, 0.0.4.", content: { "text/plain": { schema: z.string() } } },
};

/** What Prometheus collects. */
export const metricsRoutes: FastifyPluginAsyncZod<{ metrics: Metrics }> = async (app, { metrics }) => {
  app.get(
    "/metrics",
    { schema: { summary: "Figures for Prometheus", tags: ["operation"], response } },
    async (_request, reply) => {
      reply.header("content-type", "text/plain; version=0.0.4; charset=utf-8");
      return metrics.render();
    },
  );
};
