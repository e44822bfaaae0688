import { createHash } from "node:crypto";
import { connect } from "node:net";
import fc from "fast-check";
import OpenAI from "openai";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import {
  type EaselServer,
  longRequest,
  otherTinyModel,
  pngHeader,
  startServer,
  tinyModel,
  until,
} from "./support/easel-server.ts";

let server: EaselServer;
beforeAll(async () => {
  server = await startServer();
});
afterAll(() => server[Symbol.asyncDispose]());

const small = { prompt: "a white cat", size: "32x32", steps: 2 };
const route = "/v1/images/generations";

interface Answer {
  data: { b64_json: string; seed: number; size: string; model: string; drawn_size?: string }[];
  notices?: string[];
  [field: string]: unknown;
}

async function draw(body: object): Promise<Answer> {
  const response = await server.fetch(route, { ...small, ...body });
  expect(response.status, await response.clone().text()).toBe(200);
  return (await response.json()) as Answer;
}

const picture = (answer: Answer, index = 0) => Buffer.from(answer.data[index]?.b64_json ?? "", "base64");
const digest = (data: Uint8Array) => createHash("sha256").update(data).digest("hex");

describe("drawing", () => {
  test("the seed document's request answers with n raw PNGs, each with its own seed", async () => {
    const response = await server.fetch(`${route}?=`, {
      prompt: "A white cat",
      n: 2,
      model: tinyModel,
      size: "64x48",
      steps: 2,
    });
    expect(response.status).toBe(200);
    const answer = (await response.json()) as Answer;
    expect(answer).toMatchObject({ size: "64x48", output_format: "png", background: "opaque", quality: "auto" });
    expect(Math.abs(Number(answer["created"]) - Date.now() / 1000)).toBeLessThan(60);
    expect(answer.data).toHaveLength(2);
    const [first, second] = answer.data;
    expect(second?.seed).toBe((first?.seed ?? 0) + 1);
    for (const [index, image] of answer.data.entries()) {
      expect(image).toMatchObject({ size: "64x48", model: tinyModel });
      expect(pngHeader(picture(answer, index))).toEqual({ width: 64, height: 48, colorType: 2 });
    }
    expect(first?.b64_json).not.toBe(second?.b64_json);
  });

  test("the same seed draws the same picture, image i of n has seed + i, another prompt another picture", async () => {
    const [pair, single, other] = [
      await draw({ seed: 7, n: 2 }),
      await draw({ seed: 8 }),
      await draw({ seed: 8, prompt: "a red boat" }),
    ];
    expect(digest(picture(pair, 1))).toBe(digest(picture(single)));
    expect(digest(picture(single))).not.toBe(digest(picture(other)));
  });

  test("a seed that was drawn at random is returned and draws the picture again", async () => {
    const random = await draw({});
    expect(digest(picture(await draw({ seed: random.data[0]?.seed })))).toBe(digest(picture(random)));
  });

  test("models can be changed from request to request", async () => {
    expect((await draw({ model: otherTinyModel })).data[0]?.model).toBe(otherTinyModel);
    expect((await draw({ model: tinyModel })).data[0]?.model).toBe(tinyModel);
  });

  test("steps, guidance and the negative prompt change the picture", async () => {
    const variants = [{}, { steps: 3 }, { guidance_scale: 9 }, { negative_prompt: "dogs", true_cfg_scale: 4 }];
    const digests = new Set<string>();
    for (const variant of variants) digests.add(digest(picture(await draw({ seed: 1, ...variant }))));
    expect(digests.size).toBe(variants.length);
  });

  test("a picture tells how it was made", async () => {
    const text = picture(await draw({ prompt: "a cat 🐈 in Rome", seed: 3 })).toString("utf8");
    for (const part of ["a cat 🐈 in Rome", tinyModel, "Seed"]) expect(text).toContain(part);
  });

  test("OpenAI's and Regolo's extra parameters are accepted, null counts as absent, unknown ones are named", async () => {
    const regolo = await draw({ n: 1, quality: "standard", style: "realistic" });
    expect(regolo.notices).toBeUndefined();
    const nulls = await draw({
      model: null,
      n: null,
      size: "32x32",
      seed: null,
      quality: "hd",
      user: null,
      stream: null,
    });
    expect(nulls["quality"]).toBe("hd");
    const unknown = await draw({ sead: 7 });
    expect(unknown.notices).toEqual(['Unknown parameters had no effect: "sead".']);
  });

  test("any prompt that is accepted is drawn, whatever its script", { timeout: 120_000 }, async () => {
    const prompts = fc
      .string({ unit: "grapheme", minLength: 1, maxLength: 60 })
      .filter((text) => text.trim() !== "" && !text.includes("\0"));
    await fc.assert(
      fc.asyncProperty(prompts, async (prompt) => void (await draw({ prompt, steps: 1, size: "16x16" }))),
      { numRuns: 15 },
    );
  });
});

describe("bad input", () => {
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
    ["response_format url", { ...small, response_format: "url" }, "response_format", /only be "b64_json" for now/],
    ["output_format webp", { ...small, output_format: "webp" }, "output_format", /only be "png" for now/],
    ["stream", { ...small, stream: true }, "stream", /only be false for now/],
    ["partial_images", { ...small, partial_images: 2 }, "partial_images", /only be 0 for now/],
    ["transparency", { ...small, background: "transparent" }, "background", /"auto" or "opaque"/],
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
  ])("%s is a 400 in OpenAI's shape", async (_, body, type) => {
    const headers = { authorization: `Bearer ${server.key}`, "content-type": type };
    const response = await fetch(server.url + route, { method: "POST", headers, body });
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", code: "invalid_request" } });
  });

  test("whatever JSON comes, the answer is never a 5xx", async () => {
    const junk = fc.record(
      {
        prompt: fc.jsonValue(),
        n: fc.jsonValue(),
        size: fc.jsonValue(),
        seed: fc.jsonValue(),
        stream: fc.constant(true),
      },
      { requiredKeys: ["stream"] },
    );
    await fc.assert(
      fc.asyncProperty(fc.oneof(junk, fc.jsonValue()), async (body) => {
        expect((await server.fetch(route, body)).status).toBe(400);
      }),
      { numRuns: 100 },
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

  test("bytes that are no HTTP get a 400 in OpenAI's shape", async () => {
    const socket = connect(Number(new URL(server.url).port), "127.0.0.1");
    socket.end("HELO easel\r\n\r\n");
    const answer = Buffer.concat(await Array.fromAsync(socket)).toString();
    expect(answer).toMatch(/^HTTP\/1\.1 400 /);
    expect(answer).toContain('"code":"invalid_request"');
  });
});

describe("models", () => {
  test.each(["/v1/models", "/models", "//models", "/v1/v1/models", "//v1//models/", "/v1/models?api-version=1"])(
    "%s lists the models that can be used",
    async (path) => {
      const response = await server.fetch(path);
      expect(response.status).toBe(200);
      const { object, data } = (await response.json()) as { object: string; data: { id: string }[] };
      expect(object).toBe("list");
      expect(data).toContainEqual({ id: tinyModel, object: "model", created: expect.any(Number), owned_by: "local" });
    },
  );

  test("model/info says in LiteLLM's shape that they draw", async () => {
    const { data } = (await (await server.fetch("/model/info")).json()) as { data: unknown[] };
    expect(data).toContainEqual({ model_name: tinyModel, model_info: { mode: "image_generation" } });
  });

  test("generations answer under /v1/v1 and without /v1 too", async () => {
    for (const path of ["/images/generations", "/v1/v1/images/generations", "//images//generations"]) {
      expect((await server.fetch(path, small)).status).toBe(200);
    }
  });

  test("FLUX.1-dev, when not installed, says how to install it", async () => {
    const response = await server.fetch(route, { ...small, model: "FLUX.1-dev" });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({
      error: {
        message: expect.stringContaining("put the diffusers folder of black-forest-labs/FLUX.1-dev into $EASEL_HOME"),
        param: "model",
        code: "model_not_found",
      },
    });
  });

  test.each([
    "../../etc",
    "/etc/passwd",
    ".",
    "tests/fixtures/flux-dev-tiny",
    "flux-DEV-tiny",
    "__proto__",
    "Café 🐈\r\nX: y",
  ])("a model called %j is unknown, whatever lies at such a path", async (model) => {
    const response = await server.fetch(route, { ...small, model });
    expect(response.status).toBe(404);
    expect(await response.json()).toMatchObject({ error: { code: "model_not_found", param: "model" } });
    expect(response.headers.has("x")).toBe(false);
  });
});

describe("keys", () => {
  test.each([
    ["no key", undefined],
    ["a wrong key", "Bearer sk-easel-wrong"],
    ["another scheme", "Basic abc"],
    ["an empty key", "Bearer "],
  ])("%s is a 401 that says what to do", async (_, authorization) => {
    for (const path of ["/v1/models", "/models", "/model/info", route]) {
      const headers = authorization === undefined ? {} : { authorization };
      const response = await fetch(server.url + path, { headers, method: path === route ? "POST" : "GET" });
      expect(response.status).toBe(401);
      expect(response.headers.get("www-authenticate")).toBe("Bearer");
      expect(await response.json()).toMatchObject({ error: { code: "unauthorized", type: "authentication_error" } });
    }
  });

  test("the health check needs none", async () => {
    const response = await fetch(`${server.url}/healthz`);
    expect([response.status, await response.json()]).toEqual([200, { status: "ok" }]);
  });

  test("neither keys nor prompts reach the log", async () => {
    await draw({ prompt: "a very private prompt" });
    await server.fetch(route, { prompt: "a very private prompt", n: 0 });
    const log = server.log.join("");
    expect(log).toContain(route);
    expect(log).not.toContain("private");
    expect(log).not.toContain(server.key);
  });
});

describe("OpenAI's own client", () => {
  const client = () => new OpenAI({ apiKey: server.key, baseURL: `${server.url}/v1` });

  test("draws, and passes extra parameters through", async () => {
    const answer = await client().images.generate({
      prompt: "a white cat",
      size: "32x32",
      n: 2,
      response_format: "b64_json",
      ...{ seed: 5, steps: 2 },
    });
    expect(answer.data).toHaveLength(2);
    expect(answer.data?.[1]).toMatchObject({ seed: 6 });
    expect(pngHeader(Buffer.from(answer.data?.[0]?.b64_json ?? "", "base64"))).toMatchObject({ width: 32, height: 32 });
  });

  test("lists the models and finds one", async () => {
    const models = await Array.fromAsync(client().models.list());
    expect(models.map(({ id }) => id)).toContain(tinyModel);
    expect((await client().models.retrieve(tinyModel)).id).toBe(tinyModel);
  });

  test("sees our errors as its own", async () => {
    await expect(client().images.generate({ prompt: "" })).rejects.toMatchObject({
      status: 400,
      code: "invalid_request",
      param: "prompt",
      requestID: expect.stringMatching(/^req_/),
    });
    await expect(new OpenAI({ apiKey: "wrong", baseURL: server.url }).models.list()).rejects.toBeInstanceOf(
      OpenAI.AuthenticationError,
    );
  });
});

describe("long work", () => {
  test("a client that leaves stops its picture within a moment, and the engine process lives on", async () => {
    await draw({});
    const processId = server.engine.processId;
    const leaving = new AbortController();
    const left = server.fetch(route, longRequest, { signal: leaving.signal });
    await new Promise((resolve) => setTimeout(resolve, 1000));
    leaving.abort();
    await expect(left).rejects.toThrow();
    const startedMs = performance.now();
    await draw({});
    expect(performance.now() - startedMs).toBeLessThan(2500);
    expect(server.engine.processId).toBe(processId);
  });

  test("the model list answers within 20 ms while a picture is drawn", async () => {
    const leaving = new AbortController();
    const work = server.fetch(route, longRequest, { signal: leaving.signal }).catch(() => {});
    await new Promise((resolve) => setTimeout(resolve, 500));
    const durations: number[] = [];
    for (let i = 0; i < 30; i++) {
      const startedMs = performance.now();
      await (await server.fetch("/v1/models")).json();
      durations.push(performance.now() - startedMs);
    }
    leaving.abort();
    await work;
    // The median: other programs on the machine may take their time now and then.
    expect(durations.sort((a, b) => a - b)[15]).toBeLessThan(20);
  });

  test("an engine process that is killed costs its own request, and the next one is drawn by a new one", async () => {
    await draw({});
    const killed = server.engine.processId;
    const work = server.fetch(route, longRequest);
    await new Promise((resolve) => setTimeout(resolve, 500));
    process.kill(killed ?? 0, "SIGKILL");
    const response = await work;
    expect(response.status).toBe(500);
    expect(await response.json()).toMatchObject({ error: { code: "engine_crashed", type: "server_error" } });
    await draw({});
    expect(server.engine.processId).not.toBe(killed);
  });

  test("a full queue is a 503 that says when to come back", async () => {
    await using busy = await startServer({ EASEL_QUEUE_BOUND: "1" });
    const leaving = new AbortController();
    const work = [1, 2].map(() => busy.fetch(route, longRequest, { signal: leaving.signal }).catch(() => {}));
    await new Promise((resolve) => setTimeout(resolve, 500));
    const response = await busy.fetch(route, small);
    expect(response.status).toBe(503);
    expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
    expect(await response.json()).toMatchObject({ error: { code: "queue_full", type: "server_error" } });
    leaving.abort();
    await Promise.all(work);
  });

  test("closing the engine answers what is still being drawn", async () => {
    await using closing = await startServer();
    const work = closing.fetch(route, longRequest);
    await until(() => closing.log.length >= 0 && closing.engine.processId !== undefined);
    await new Promise((resolve) => setTimeout(resolve, 500));
    await closing.engine.close();
    const response = await work;
    expect(response.status).toBe(503);
    expect(await response.json()).toMatchObject({
      error: { code: "cancelled", message: expect.stringContaining("shutting down") },
    });
  });
});
