/** What is said to requests that no route takes: that there is nothing, or that something else may be done there. */
import type { FastifyInstance } from "fastify";
import { EaselError } from "../errors.ts";
import { sendError } from "./error-response.ts";

/** Answers for the routes that are registered after it, before a body is read. */
export function answerWithoutRoute(app: FastifyInstance): void {
  const routes: { path: RegExp; methods: string[] }[] = [];
  app.addHook("onRoute", ({ method, url }) => {
    const pattern = url
      .replaceAll(".", String.raw`\.`)
      .replaceAll(/:\w+/g, "[^/]+")
      .replaceAll("*", ".*");
    routes.push({ path: new RegExp(`^${pattern}/?$`), methods: [method].flat() });
  });
  app.addHook("onRequest", async ({ is404, method, url }, reply) => {
    if (!is404) return undefined;
    const path = url.split("?", 1)[0] ?? "";
    const allowed = new Set(routes.filter((route) => route.path.test(path)).flatMap(({ methods }) => methods));
    const shown = path.slice(0, 100);
    if (allowed.size === 0) {
      return sendError(reply, new EaselError("not_found", `There is no ${method} ${shown}; see docs/api.md.`));
    }
    const list = [...allowed].join(", ");
    reply.header("allow", list);
    return sendError(reply, new EaselError("method_not_allowed", `${shown} takes ${list}, not ${method}.`));
  });
}
