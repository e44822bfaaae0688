import { connect } from "node:net";
import { gzipSync } from "node:zlib";
import * as fc from "fast-check";
import { afterAll, beforeAll, expect, test } from "vitest";
import { imageEditBody, imageGenerationBody } from "../src/server/openai-schemas.ts";
import { type EaselServer, startServer } from "./support/easel-server.ts";

let server: EaselServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const small = { prompt: "a white cat", size: "32x32", steps: 2 };
const route = "/v1/images/generations";

const cases: [string, unknown, string | null, RegExp][] = [
  ["no prompt", {}, "prompt", /^prompt is required\.$/],
  ["empty prompt", { prompt: "" }, "prompt", /empty/],
  ["blank prompt", { prompt: " \n " }, "prompt", /empty/],
  ["long prompt", { prompt: "x".repeat(100_000) }, "prompt", /at most 32000 characters, but has 100000/],
  ["null byte", { prompt: "a\0b" }, "prompt", /null bytes/],
  ["prompt of another type", { prompt: ["a"] }, "prompt", /must be a text/],
  ["size 0x0", { ...small, size: "0x0" }, "size", /from 16 to 2048 pixels/],
  ["size 257x300", { ...small, size: "257x300" }, "size", /multiples of 16, such as 256x304/],
  ["size 1e9x1e9", { ...small, size: "1e9x1e9" }, "size", /WIDTHxHEIGHT/],
  ["size abc", { ...small, size: "abc" }, "size", /WIDTHxHEIGHT/],
  ["size 99999x16", { ...small, size: "99999x16" }, "size", /from 16 to 2048 pixels/],
  ["n 0", { ...small, n: 0 }, "n", /whole number from 1 to 10/],
  ["n 11", { ...small, n: 11 }, "n", /whole number from 1 to 10/],
  ["n 1.5", { ...small, n: 1.5 }, "n", /whole number from 1 to 10/],
  ["n as text", { ...small, n: "2" }, "n", /whole number from 1 to 10/],
  ["seed -1", { ...small, seed: -1 }, "seed", /whole number/],
  ["seed 2^53", { ...small, seed: 2 ** 53 }, "seed", /whole number/],
  ["seed as text", { ...small, seed: "seven" }, "seed", /whole number/],
  ["a last seed beyond 2^53 - 1", { ...small, n: 2, seed: 2 ** 53 - 1 }, "seed", /last image/],
  ["steps 0", { ...small, steps: 0 }, "steps", /whole number from 1 to 150/],
  ["guidance as text", { ...small, guidance_scale: "high" }, "guidance_scale", /number from 0 to 100/],
  ["guidance beyond all bounds", { ...small, guidance_scale: 1e9 }, "guidance_scale", /number from 0 to 100/],
  ["max_sequence_length 513", { ...small, max_sequence_length: 513 }, "max_sequence_length", /from 1 to 512/],
  ["quality best", { ...small, quality: "best" }, "quality", /must be "auto", "standard", .* or "hd", not "best"/],
  [
    "a LoRA that is not here",
    { ...small, lora: "../secret" },
    "lora",
    /no LoRA "..\/secret"; available: lora-diffusers/,
  ],
  ["a LoRA of another type", { ...small, lora: 7 }, "lora", /must be a name, "NAME:SCALE"/],
  ["a LoRA with an absurd scale", { ...small, lora: "a:99" }, "lora", /must be/],
  ["nine LoRAs", { ...small, lora: Array(9).fill("a") }, "lora", /must be/],
  ["upscale 3", { ...small, upscale: 3 }, "upscale", /must be 2 or 4, not 3/],
  ["an upscaled size beyond the limit", { ...small, size: "2048x16", upscale: 4 }, "upscale", /largest side is 4096/],
  ["response_format uri", { ...small, response_format: "uri" }, "response_format", /"b64_json" or "url"/],
  ["output_format gif", { ...small, output_format: "gif" }, "output_format", /"png", "jpeg" or "webp", not "gif"/],
  ["output_compression 101", { ...small, output_compression: 101 }, "output_compression", /from 0 to 100/],
  ["stream as text", { ...small, stream: "yes" }, "stream", /must be true or false/],
  ["partial_images without stream", { ...small, partial_images: 2 }, "partial_images", /needs stream to be true/],
  ["partial_images 4", { ...small, stream: true, partial_images: 4 }, "partial_images", /from 0 to 3/],
  [
    "links in a stream",
    { ...small, stream: true, response_format: "url" },
    "response_format",
    /"b64_json" with stream/,
  ],
  ["transparency", { ...small, background: "transparent" }, "background", /cannot be "transparent": .*use "opaque"/],
  ["embed_prompt as text", { ...small, embed_prompt: "no" }, "embed_prompt", /must be true or false/],
  ["a body that is a list", [], null, /must be a JSON object/],
  ["a body that is null", null, null, /must be a JSON object/],
  ["a body that is a text", "cat", null, /must be a JSON object/],
];
test.each(cases)("%s is a 400 that names the parameter", async (_, body, param, message) => {
  const response = await server.fetch(route, body);
  expect(response.status).toBe(400);
  expect(await response.json()).toEqual({
    error: { message: expect.stringMatching(message), type: "invalid_request_error", param, code: "invalid_request" },
  });
  expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  expect(response.statusText).toMatch(/^[\x20-\x7e]{10,120}$/);
});

test.each([
  ["broken JSON", '{"prompt": "a', "application/json"],
  ["no body", "", "application/json"],
  ["a form", "prompt=cat", "application/x-www-form-urlencoded"],
  ["another type", "<cat/>", "text/xml"],
  ["a poisoned prototype", '{"prompt":"a","__proto__":{"n":2}}', "application/json"],
  ["deep nesting", "[".repeat(100_000), "application/json"],
  ["a compressed body", gzipSync(JSON.stringify(small)), "application/json", { "content-encoding": "gzip" }],
] as [string, string | Buffer<ArrayBuffer>, string, Record<string, string>?][])(
  "%s is a 400 in OpenAI's shape",
  async (_, body, type, more = {}) => {
    const headers = { authorization: `Bearer ${server.key}`, "content-type": type, ...more };
    const response = await fetch(server.url + route, { method: "POST", headers, body });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", code: "invalid_request" } });
  },
);

test("whatever JSON comes, the answer is never a 5xx", async () => {
  const fields = Object.keys(imageGenerationBody({ maxImages: 10, minSide: 16, maxSide: 2048 }).shape);
  const junk = fc.record(
    // One value that is refused, so that none of them is drawn.
    { ...Object.fromEntries(fields.map((name) => [name, fc.jsonValue()])), background: fc.constant("transparent") },
    { requiredKeys: ["background"] },
  );
  await fc.assert(
    fc.asyncProperty(fc.oneof(junk, fc.jsonValue()), async (body) => {
      expect((await server.fetch(route, body)).status).toBe(400);
    }),
    { numRuns: 100 },
  );
});

test("whatever a form says, the answer is never a 5xx", async () => {
  const fields = Object.keys(imageEditBody({ maxImages: 10, minSide: 16, maxSide: 2048 }).shape);
  const value = fc.oneof(fc.string(), fc.string({ unit: "binary" }), fc.double().map(String), fc.uint8Array());
  const junk = fc.array(fc.tuple(fc.oneof(fc.constantFrom(...fields), fc.string()), value), { maxLength: 12 });
  const routes = fc.constantFrom("edits", "variations", "upscale");
  await fc.assert(
    fc.asyncProperty(routes, junk, async (name, entries) => {
      const form = new FormData();
      form.append("output_format", "gif");
      for (const [field, content] of entries) {
        form.append(field, typeof content === "string" ? content : new Blob([new Uint8Array(content)]));
      }
      const headers = { authorization: `Bearer ${server.key}` };
      const response = await fetch(`${server.url}/v1/images/${name}`, { method: "POST", headers, body: form });
      expect(response.status, JSON.stringify(entries)).toBe(400);
      expect(await response.json()).toMatchObject({ error: { code: "invalid_request" } });
    }),
    { numRuns: 150 },
  );
});

test("a body over the limit is a 413", async () => {
  const response = await server.fetch(route, { prompt: "x".repeat(2 ** 20) });
  expect(response.status).toBe(413);
  expect(await response.json()).toMatchObject({ error: { code: "payload_too_large" } });
});

test.each(["/", "/v2/models", "/v1", "/v1/images", "/v1/%zz"])(
  "GET %s is a 404 or 400 in OpenAI's shape",
  async (path) => {
    const response = await server.fetch(path);
    expect([400, 404]).toContain(response.status);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", param: null } });
    expect(response.headers.get("x-request-id")).toMatch(/^req_/);
  },
);

test.each([
  ["PUT", "/v1/images/generations", "POST"],
  ["DELETE", "/models/x", "GET, HEAD"],
  ["POST", "//v1//images/jobs/x", "GET, HEAD, DELETE"],
])("%s %s is a 405 that says what the address takes", async (method, path, allowed) => {
  const response = await server.fetch(path, undefined, { method });
  expect([response.status, response.headers.get("allow")]).toEqual([405, allowed]);
  expect(await response.json()).toMatchObject({ error: { code: "method_not_allowed" } });
});

test("headers beyond all measure get a 400 that says so", async () => {
  const response = await fetch(`${server.url}/v1/models`, { headers: { "x-long": "a".repeat(20_000) } });
  expect(response.status).toBe(400);
  expect(await response.json()).toMatchObject({
    error: { code: "invalid_request", message: "The request's headers are too large." },
  });
});

test("bytes that are no HTTP get a 400 in OpenAI's shape", async () => {
  const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
  socket.end("HELO easel\r\n\r\n");
  const answer = Buffer.concat(await Array.fromAsync(socket)).toString();
  expect(answer).toMatch(/^HTTP\/1\.1 400 /);
  expect(answer).toContain('"code":"invalid_request"');
});
