import { createHash } from "node:crypto";
import * as fc from "fast-check";
import { AuthenticationError, OpenAI } from "openai";
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
import { form } from "./support/forms.ts";

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
const client = () => new OpenAI({ apiKey: server.key, baseURL: `${server.url}/v1` });

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

  test("a LoRA changes the picture by its scale, and is told in its file", async () => {
    const plain = await draw({ seed: 1 });
    const whole = await draw({ seed: 1, lora: "lora-diffusers" });
    const half = await draw({ seed: 1, lora: [{ name: "lora-diffusers", scale: 0.5 }] });
    expect(new Set([plain, whole, half].map((answer) => digest(picture(answer)))).size).toBe(3);
    expect(picture(await draw({ seed: 1, lora: ["lora-diffusers:0.5"] }))).toEqual(picture(half));
    expect(picture(half).toString("latin1")).toContain('"lora":[{"name":"lora-diffusers","scale":0.5}]');
    expect(digest(picture(await draw({ seed: 1 })))).toBe(digest(picture(plain)));
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

test("without a size a picture has the model's own, as far as the operator's limits go", async () => {
  await using limited = await startServer({ EASEL_MAX_SIDE: "48" });
  const response = await limited.fetch(route, { prompt: "a white cat", steps: 1 });
  expect(await response.json()).toMatchObject({ size: "48x48" });
  expect(await (await limited.fetch(`/v1/models/${tinyModel}`)).json()).toMatchObject({ native_size: "48x48" });
});

describe("models", () => {
  test.each(["/v1/models", "/models", "//models", "/v1/v1/models", "//v1//models/", "/v1/models?api-version=1"])(
    "%s lists the models that can be used",
    async (path) => {
      const response = await server.fetch(path);
      expect(response.status).toBe(200);
      const { object, data } = (await response.json()) as { object: string; data: { id: string }[] };
      expect(object).toBe("list");
      expect(data).toContainEqual({
        id: tinyModel,
        object: "model",
        created: expect.any(Number),
        owned_by: "local",
        license: null,
        native_size: "1024x1024",
        draws_any_size: true,
        min_side: 16,
        max_side: 2048,
        side_multiple: 16,
        max_upscaled_side: 4096,
        max_images: 10,
        default_steps: 28,
        max_steps: 150,
        default_guidance_scale: 3.5,
        default_max_sequence_length: 512,
      });
    },
  );

  test("model/info says in LiteLLM's shape that they draw", async () => {
    const { data } = (await (await server.fetch("/model/info")).json()) as { data: unknown[] };
    expect(data).toContainEqual({
      model_name: tinyModel,
      model_info: expect.objectContaining({ mode: "image_generation", native_size: "1024x1024", default_steps: 28 }),
    });
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
        message: expect.stringContaining("install it with: easel pull FLUX.1-dev"),
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

  test("neither keys nor prompts reach the log, whatever becomes of the request", async () => {
    const body = { ...small, prompt: "a very private prompt", negative_prompt: "private too" };
    await draw(body);
    await (await server.fetch(route, { ...body, stream: true, partial_images: 1 })).text();
    for (const fault of [{ n: 0 }, { model: "none" }, { prompt: "private\0" }, { private: 1 }, "private"]) {
      await server.fetch(route, typeof fault === "string" ? fault : { ...body, ...fault });
    }
    await server.fetch(`${route}?prompt=private&key=${server.key}`, body);
    await server.fetch(`/private/${server.key}?prompt=private`);
    await server.fetch("/v1/images/jobs", body);
    await fetch(`${server.url}/v1/images/edits`, {
      method: "POST",
      headers: { authorization: `Bearer ${server.key}` },
      body: form({ image: Buffer.from("no picture"), prompt: "private", file: "private" }),
    });
    await until(() => server.jobs.inHand === 0);
    await fetch(`${server.url}/v1/models`, { headers: { authorization: `Bearer ${server.key}x` } });
    // A fault inside, told with its stack: the engine dies of the work, twice.
    const work = server.fetch(route, { ...longRequest, prompt: "a very private prompt" });
    for (let time = 0; time < 2; time++) {
      await until(() => server.engine.processId !== undefined && server.jobs.inHand > 0);
      await new Promise((resolve) => setTimeout(resolve, 500));
      process.kill(server.engine.processId!, "SIGKILL");
    }
    expect((await work).status).toBe(500);
    const log = server.log.join("");
    expect(log).toContain(route);
    expect(log).toContain("engine_crashed");
    expect(log).not.toContain("private");
    expect(log).not.toContain(server.key);
  });
});

describe("OpenAI's own client", () => {
  test("draws, and passes extra parameters through", async () => {
    const extra = { seed: 5, steps: 2 };
    const answer = await client().images.generate({
      prompt: "a white cat",
      size: "32x32",
      n: 2,
      response_format: "b64_json",
      ...extra,
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
      AuthenticationError,
    );
  });
});
