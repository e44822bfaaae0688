/** `GET /openapi.json`, written from the routes' own schemas, and `/docs`, a page that shows it and tries requests. */
import swagger from "@fastify/swagger";
import swaggerUi from "@fastify/swagger-ui";
import type { FastifyInstance, FastifySchema } from "fastify";
import { createJsonSchemaTransform, jsonSchemaTransformObject } from "fastify-type-provider-zod";
import { z } from "zod";
import { version } from "../version.ts";
import { fieldNamePattern } from "./multipart.ts";
import { errorObject } from "./openai-schemas.ts";

const toJsonSchema = createJsonSchemaTransform({});
const errorBody = { "application/json": { schema: z.object({ error: errorObject }) } };
/** Routes that stand outside /v1; the others are documented there alone. */
const rootRoutes = /^\/(healthz|readyz|metrics)$/;
const hiddenRoutes = new Set(["/v1/metrics"]);

/** What a refusal means, by its status; docs/errors.md has the codes. */
const refusals = {
  400: "A parameter is missing, malformed or out of range, or the request was refused for what it asks.",
  401: "The API key is missing, wrong, expired or revoked.",
  403: "The API key may not do this.",
  404: "There is no such thing, or none that this key may use.",
  413: "The body, or a file in it, is too large.",
  429: "Too many requests or pictures at once: wait `Retry-After` seconds. Or the key's budget is used up.",
  500: "A fault of the server or of its engine process.",
  503: "No room in the queue, or no longer any: try again after `Retry-After` seconds.",
} as const;

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
    transformObject: withSharedSchemas,
    transform: (route) => {
      const { schema = {}, url } = route;
      const isDocumented = (url.startsWith("/v1/") && !hiddenRoutes.has(url)) || rootRoutes.test(url);
      if (!isDocumented) return toJsonSchema({ ...route, schema: { ...schema, hide: true } });
      const response = { ...refusalsOf(schema), ...(schema.response as object | undefined) };
      const described = toJsonSchema({ ...route, schema: { ...schema, response } });
      if (schema.consumes?.includes("multipart/form-data")) {
        described.schema.body = asForm(described.schema.body as FormSchema);
      }
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

interface Document {
  components?: { schemas?: object };
}

/** The schemas that have a name, which are all of answers: without the plugin's second set for what comes in. */
const withSharedSchemas: typeof jsonSchemaTransformObject = (document) => {
  const { components, ...described } = jsonSchemaTransformObject(document) as Document;
  const schemas = Object.entries(components?.schemas ?? {}).filter(([name]) => !name.endsWith("Input"));
  return { ...described, components: { ...components, schemas: Object.fromEntries(schemas) } };
};

/** The ways in which a route may refuse, judged by what it takes; only drawing and enlarging have a body. */
function refusalsOf({ body, params, querystring, security }: FastifySchema): object {
  const takesInput = body !== undefined || params !== undefined || querystring !== undefined;
  const statuses = [
    ...(takesInput ? ([400] as const) : []),
    ...(security === undefined ? ([401, 403] as const) : []),
    ...(body !== undefined || params !== undefined ? ([404] as const) : []),
    ...(body === undefined ? [] : ([413, 429, 503] as const)),
    500 as const,
  ];
  return Object.fromEntries(statuses.map((status) => [status, { description: refusals[status], content: errorBody }]));
}

interface FieldSchema {
  type?: string | readonly string[];
  anyOf?: readonly FieldSchema[];
}

interface FormSchema {
  properties: Record<string, FieldSchema>;
}

/** A form's fields are texts and files: none of them is null, a list or an object. */
function asForm(schema: FormSchema): object {
  const fields = Object.entries(schema.properties).map(([name, field]) => [name, asFormField(field)]);
  return {
    ...schema,
    properties: Object.fromEntries(fields),
    propertyNames: { pattern: fieldNamePattern.source },
    additionalProperties: { type: "string" },
  };
}

function asFormField(field: FieldSchema): FieldSchema {
  const { anyOf: _, ...rest } = field;
  const [text, ...others] = alternatives(field).filter(({ type }) => !/^(null|array|object)$/.test(String(type)));
  return others.length === 0 ? { ...rest, ...text } : { ...rest, anyOf: [text!, ...others] };
}

function alternatives(field: FieldSchema): FieldSchema[] {
  if (field.anyOf !== undefined) return field.anyOf.flatMap(alternatives);
  return Array.isArray(field.type) ? field.type.map((type: string) => ({ ...field, type })) : [field];
}
