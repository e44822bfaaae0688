import type { FastifyPluginAsyncZod } from "fastify-type-provider-zod";
import { z } from "zod";
import { must } from "../../engine/generation-request.ts";
import { EaselError } from "../../errors.ts";
import type { Database } from "../../store/database.ts";
import { budgetState, usageCsv, usageReport } from "../../store/usage.ts";

export interface UsageRoutesOptions {
  database: Database;
}

const day = z.iso.date({ error: must("be a day such as 2026-01-31") }).nullish();

const query = z.object({
  from: day.describe("First day, UTC. Default: the first of all."),
  to: day.describe("Last day, UTC. Default: today."),
  key: z
    .string({ error: must("be a key's id or all") })
    .nullish()
    .describe('With the scope "admin": another key\'s id, or `all`.'),
  format: z.enum(["json", "csv"], { error: must('be "json" or "csv"') }).nullish(),
});

const usageObject = z.object({
  object: z.literal("usage"),
  data: z.array(
    z.object({
      day: z.string(),
      key_id: z.string(),
      key_name: z.string(),
      model: z.string(),
      requests: z.number().int(),
      pictures: z.number().int(),
      megapixel_steps: z.number(),
    }),
  ),
  /** The asking key's own. */
  budget: z
    .object({
      megapixel_steps: z.number(),
      used: z.number(),
      remaining: z.number(),
      period: z.string(),
      resets_at: z.string(),
    })
    .nullable(),
});

/** What was drawn, by day and model: one's own, and with the scope "admin" everybody's. */
export const usageRoutes: FastifyPluginAsyncZod<UsageRoutesOptions> = async (app, { database }) => {
  app.get(
    "/usage",
    {
      schema: {
        summary: "What was drawn, by day and model",
        tags: ["usage"],
        querystring: query,
        response: {
          200: {
            description: "In the format that was asked for.",
            content: { "application/json": { schema: usageObject }, "text/csv": { schema: z.string() } },
          },
        },
      },
    },
    async (request, reply) => {
      const { from, to, key = request.client.id, format } = request.query;
      const keyId = key ?? request.client.id;
      if (keyId !== request.client.id && !request.client.scopes.includes("admin")) {
        throw new EaselError("forbidden", 'Only a key with the scope "admin" sees the usage of others.', {
          param: "key",
        });
      }
      const rows = await usageReport(database, {
        keyId: keyId === "all" ? undefined : keyId,
        from: from ?? undefined,
        to: to ?? undefined,
      });
      if (format === "csv") {
        reply.header("content-type", "text/csv; charset=utf-8");
        reply.header("content-disposition", 'attachment; filename="easel-usage.csv"');
        return usageCsv(rows);
      }
      const budget = await budgetState(database, request.client);
      return {
        object: "usage" as const,
        data: rows.map((row) => ({
          day: row.day,
          key_id: row.keyId,
          key_name: row.keyName,
          model: row.model,
          requests: row.requests,
          pictures: row.pictures,
          megapixel_steps: row.megapixelSteps,
        })),
        budget: budget
          ? {
              megapixel_steps: budget.pixelSteps / 1e6,
              used: budget.usedPixelSteps / 1e6,
              remaining: Math.max(0, budget.pixelSteps - budget.usedPixelSteps) / 1e6,
              period: budget.period,
              resets_at: budget.resetsAt.toISOString(),
            }
          : null,
      };
    },
  );
};
