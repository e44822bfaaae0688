import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import type { Jobs } from "../../engine/jobs.ts";
import type { JobStore } from "../../store/jobs.ts";

export interface HealthRoutesOptions {
  jobs: Jobs;
  jobStore: JobStore;
}

const readiness = z.object({ status: z.string() });

/** For whoever starts and stops servers; needs no key. */
export const healthRoutes: FastifyPluginAsyncZod<HealthRoutesOptions> = async (app, { jobs, jobStore }) => {
  const tags = ["operation"];

  app.get(
    "/healthz",
    {
      schema: {
        summary: "Whether the server answers",
        tags,
        security: [],
        response: { 200: z.object({ status: z.literal("ok") }) },
      },
    },
    async () => ({ status: "ok" as const }),
  );

  app.get(
    "/readyz",
    {
      schema: {
        summary: "Whether the server takes work",
        tags,
        security: [],
        response: { 200: readiness, 503: readiness },
      },
    },
    async (_request, reply) => {
      if (jobs.draining) return await reply.code(503).send({ status: "shutting down" });
      const answers = await jobStore.ping().then(
        () => true,
        () => false,
      );
      return answers ? { status: "ok" } : await reply.code(503).send({ status: "the database does not answer" });
    },
  );
};
