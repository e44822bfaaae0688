/** `GET /openapi.json`, written from the routes' own schemas, and `/docs`, a page that shows it and tries requests. */
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance } from "fastify";
import { createJsonSchemaTransform } from "fastify-type-provider-zod";
import { z } from "zod";
import { version } from "../version.ts";

const toJsonSchema = createJsonSchemaTransform({});
const errorObject = z
  .object({
    error: z.object({
      message: z.string(),
      type: z.string(),
      param: z.string().nullable(),
      code: z.string().nullable(),
    }),
  })
  .describe("What went wrong; see docs/errors.md.");
/** Routes that stand outside /v1; the others are documented there alone. */
const rootRoutes = /^\/(healthz|readyz|metrics)$/;

/** Describes the routes that are registered after it. */
export function describeRoutes(app: FastifyInstance): void {
  void app.register(swagger, {
    openapi: {
      openapi: "3.1.0",
      info: {
        title: "Easel",
        version,
        description: "Self-hosted image generation, compatible with OpenAI's image API.",
        license: { name: "MIT", identifier: "MIT" },
      },
      components: { securitySchemes: { key: { type: "http", scheme: "bearer" } } },
      security: [{ key: [] }],
    },
    transform: (route) => {
      const isDocumented = route.url.startsWith("/v1/") || rootRoutes.test(route.url);
      const schema = route.schema ?? {};
      if (!isDocumented) return toJsonSchema({ ...route, schema: { ...schema, hide: true } });
      const response = { ...(schema.response as object | undefined), default: errorObject };
      const described = toJsonSchema({ ...route, schema: { ...schema, response } });
      // Without an example the page would propose one field of each kind, which no server could honour.
      const examples = schema.body instanceof z.ZodType ? schema.body.meta()?.["examples"] : undefined;
      if (examples !== undefined) Object.assign(described.schema.body as object, { examples });
      return described;
    },
  });
  app.get("/openapi.json", { schema: { hide: true } }, async () => app.swagger());
  void app.register(swaggerUi, {
    routePrefix: "/docs",
    // Its own files alone; not the plugin's default, which sends requests over HTTPS that a local server does not speak.
    staticCSP: {
      "default-src": ["'self'"],
      "img-src": ["'self'", "data:", "blob:"],
      "style-src": ["'self'", "'unsafe-inline'"],
      "object-src": ["'none'"],
      "frame-ancestors": ["'none'"],
    },
    // Without it the page would ask a service on the internet whether the document is valid.
    uiConfig: { validatorUrl: null, persistAuthorization: false, displayRequestDuration: true },
  });
}
