/** Pictures behind links, and what browsers are told. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, utimesSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { OpenAI } from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { ImageFiles } from "../src/server/image-files.ts";
import { type EaselServer, startServer } from "./support/easel-server.ts";

let server: EaselServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const route = "/v1/images/generations";
const small = { prompt: "a white cat", size: "32x32", steps: 2, seed: 7 };

async function drawLink(body: object = {}): Promise<string> {
  const response = await server.fetch(route, { ...small, response_format: "url", ...body });
  expect(response.status, await response.clone().text()).toBe(200);
  const { data } = (await response.json()) as { data: { url: string; b64_json?: string }[] };
  expect(data[0]).not.toHaveProperty("b64_json");
  return data[0]!.url;
}

describe("a link", () => {
  test("leads to the very picture, without a key", async () => {
    const picture = await fetch(await drawLink());
    expect(picture.status).toBe(200);
    expect(picture.headers.get("content-type")).toBe("image/png");
    expect(picture.headers.get("cache-control")).toMatch(/^private, max-age=3[56]\d\d$/);
    const plain = (await (await server.fetch(route, small)).json()) as { data: { b64_json: string }[] };
    expect(Buffer.from(await picture.arrayBuffer()).toString("base64")).toBe(plain.data[0]?.b64_json);
  });

  test.each(["jpeg", "webp"])("of a %s has its type and its name", async (format) => {
    const url = await drawLink({ output_format: format });
    expect(new URL(url).pathname).toMatch(new RegExp(`^/v1/images/files/[0-9a-f]{32}\\.${format}$`));
    expect((await fetch(url)).headers.get("content-type")).toBe(`image/${format}`);
  });

  test("works without /v1 too, like every route", async () => {
    expect((await fetch((await drawLink()).replace("/v1/", "/"))).status).toBe(200);
  });

  test("is what OpenAI's client gives", async () => {
    const client = new OpenAI({ apiKey: server.key, baseURL: `${server.url}/v1` });
    const answer = await client.images.generate({ prompt: "a cat", size: "32x32", response_format: "url", n: 2 });
    for (const { url } of answer.data ?? []) expect((await fetch(url!)).status).toBe(200);
  });

  test.each<[string, (url: URL) => void]>([
    ["another expiry", (url) => url.searchParams.set("expires", "99999999999")],
    ["another signature", (url) => url.searchParams.set("signature", "A".repeat(43))],
    ["an empty signature", (url) => url.searchParams.set("signature", "")],
    ["another name", (url) => (url.pathname = `/v1/images/files/${"0".repeat(32)}.png`)],
    ["another format", (url) => (url.pathname = url.pathname.replace(".png", ".webp"))],
    ["a path", (url) => (url.pathname = "/v1/images/files/..%2F..%2Feasel.db")],
    ["an absolute path", (url) => (url.pathname = "/v1/images/files/%2Fetc%2Fpasswd")],
    ["the secret's name", (url) => (url.pathname = "/v1/images/files/..%2Flink-secret")],
  ])("with %s leads nowhere", async (_, change) => {
    const url = new URL(await drawLink());
    change(url);
    const response = await fetch(url);
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: "not_found", message: expect.any(String) } });
  });

  test.each(["", "?expires=1", "?expires=abc&signature=x", "?expires=1&expires=2&signature=x"])(
    "without its parts (%s) is refused",
    async (query) => {
      const { pathname } = new URL(await drawLink());
      expect((await fetch(server.url + pathname + query)).status).toBe(400);
    },
  );

  test("names the address that the operator gave", async () => {
    await using own = await startServer({ EASEL_PUBLIC_URL: "https://pictures.example.org/easel/" });
    const response = await own.fetch(route, { ...small, response_format: "url" });
    const { data } = (await response.json()) as { data: { url: string }[] };
    expect(data[0]?.url).toMatch(/^https:\/\/pictures\.example\.org\/easel\/v1\/images\/files\//);
  });
});

/** Files in a folder of their own, which is gone afterwards. */
async function withFiles(linkSeconds: number, use: (files: ImageFiles, home: string) => Promise<void>): Promise<void> {
  const home = mkdtempSync(join(tmpdir(), "easel-links-"));
  const files = new ImageFiles({ home, linkSeconds });
  await use(files, home);
  files.close();
  rmSync(home, { recursive: true });
}

describe("the files behind links", () => {
  const data = Buffer.from("picture");

  test("are their owner's alone to read, like the secret", async () => {
    await withFiles(60, async (files, home) => {
      const { name } = await files.store(data, "png");
      for (const path of ["link-secret", join("images", name)]) {
        expect(statSync(join(home, path)).mode & 0o077).toBe(0);
      }
    });
  });

  test("outlive a restart of the server", async () => {
    await withFiles(60, async (files, home) => {
      const link = await files.store(data, "png");
      const restarted = new ImageFiles({ home, linkSeconds: 60 });
      expect((await restarted.read(link)).data).toEqual(data);
      restarted.close();
    });
  });

  test("cannot be read once they have expired, and are deleted then", async () => {
    await withFiles(60, async (files, home) => {
      const link = await files.store(data, "png");
      const path = join(home, "images", link.name);
      const past = Date.now() / 1000 - 61;
      utimesSync(path, past, past);
      const kept = await files.store(data, "webp");
      await files.cleanUp();
      expect(existsSync(path)).toBe(false);
      expect(readdirSync(join(home, "images"))).toEqual([kept.name]);
      await expect(files.read(link)).rejects.toMatchObject({ code: "not_found" });
    });
    await withFiles(0, async (files) => {
      const expired = await files.store(data, "png");
      await new Promise((resolve) => setTimeout(resolve, 1100));
      await expect(files.read(expired)).rejects.toMatchObject({ code: "not_found" });
    });
  });

  test("have names that cannot be guessed from one another", async () => {
    await withFiles(60, async (files, home) => {
      const links = await Promise.all(Array.from({ length: 20 }, () => files.store(data, "png")));
      expect(new Set(links.map(({ name }) => name)).size).toBe(20);
      expect(readFileSync(join(home, "link-secret"))).toHaveLength(32);
    });
  });
});

/** What a browser asks before a page of `origin` may draw. */
async function preflight(url: string, origin: string): Promise<Response> {
  return await fetch(url + route, {
    method: "OPTIONS",
    headers: {
      origin,
      "access-control-request-method": "POST",
      "access-control-request-headers": "authorization,x-stainless-lang",
    },
  });
}

describe("browsers", () => {
  test("are told to take every answer for nothing more than it is", async () => {
    for (const path of ["/v1/models", "/healthz", "/nowhere", "/openapi.json"]) {
      const { headers } = await server.fetch(path);
      expect(headers.get("x-content-type-options")).toBe("nosniff");
      expect(headers.get("content-security-policy")).toContain("frame-ancestors 'none'");
      expect(headers.get("referrer-policy")).toBe("no-referrer");
    }
  });

  test("let no page of another origin in unless it was allowed", async () => {
    const response = await preflight(server.url, "https://example.org");
    expect(response.status).toBe(405);
    expect(response.headers.has("access-control-allow-origin")).toBe(false);
    const headers = { origin: "https://example.org", authorization: `Bearer ${server.key}` };
    const answer = await fetch(`${server.url}/v1/models`, { headers });
    expect(answer.headers.has("access-control-allow-origin")).toBe(false);
  });

  test("let the pages in that were allowed, and only those", async () => {
    await using own = await startServer({ EASEL_CORS_ORIGINS: "https://example.org, http://localhost:5173" });
    const allowed = await preflight(own.url, "http://localhost:5173");
    expect(allowed.status).toBe(204);
    expect(allowed.headers.get("access-control-allow-origin")).toBe("http://localhost:5173");
    expect(allowed.headers.get("access-control-allow-headers")).toBe("authorization,x-stainless-lang");
    expect(allowed.headers.get("vary")).toContain("Origin");
    const headers = { origin: "https://example.org" };
    const refused = await fetch(`${own.url}/v1/models`, { headers });
    expect([refused.status, refused.headers.get("access-control-allow-origin")]).toEqual([401, headers.origin]);
    const other = await preflight(own.url, "https://example.com");
    expect(other.headers.has("access-control-allow-origin")).toBe(false);
  });
});

describe("the documentation", () => {
  interface OpenApi {
    openapi: string;
    components: { schemas: object };
    paths: Record<string, Record<string, { requestBody?: { content: object }; security?: unknown[] }>>;
  }

  test("describes every route of /v1 once, from the routes' own schemas", async () => {
    const response = await fetch(`${server.url}/openapi.json`);
    expect(response.status).toBe(200);
    const { openapi, paths, components } = (await response.json()) as OpenApi;
    expect(openapi).toBe("3.1.0");
    expect(Object.keys(paths)).toEqual(
      expect.arrayContaining([
        "/healthz",
        "/v1/images/generations",
        "/v1/images/edits",
        "/v1/images/variations",
        "/v1/images/upscale",
        "/v1/images/files/{name}",
        "/v1/models",
        "/v1/models/{model}",
        "/v1/model/info",
      ]),
    );
    expect(Object.keys(paths).filter((path) => !path.startsWith("/v1/") && path.split("/").length > 2)).toEqual([]);
    const body = JSON.stringify(paths["/v1/images/generations"]?.["post"]?.requestBody);
    for (const field of ["prompt", "seed", "partial_images", "max_sequence_length"]) expect(body).toContain(field);
    expect(paths["/v1/images/edits"]?.["post"]?.requestBody?.content).toHaveProperty("multipart/form-data");
    expect(paths["/v1/images/generations"]?.["post"]).toMatchObject({
      requestBody: { content: { "application/json": { example: { prompt: expect.any(String) } } } },
      responses: { 200: expect.anything(), 400: expect.anything(), 429: expect.anything() },
    });
    expect(Object.keys(components.schemas).toSorted()).toEqual(["Error", "Images", "Job", "Model"]);
  });

  test("is a page that loads nothing from elsewhere", async () => {
    const page = await fetch(`${server.url}/docs`);
    expect(page.status).toBe(200);
    const csp = page.headers.get("content-security-policy") ?? "";
    expect(csp).toContain("default-src 'self'");
    expect(csp).not.toMatch(/https?:/);
    const html = await page.text();
    const sources = [...html.matchAll(/(?:src|href)="([^"]+)"/g)].map(([, source]) => source!);
    expect(sources.length).toBeGreaterThan(2);
    for (const source of sources) {
      const url = new URL(source, page.url);
      expect(url.origin).toBe(server.url);
      expect((await fetch(url)).status, source).toBe(200);
    }
  });
});
