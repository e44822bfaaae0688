/** Edits, variations and upscaling: forms with pictures, as OpenAI's client sends them and as nobody should. */
import { OpenAI, toFile } from "openai";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { readMetadata } from "../src/images/metadata.ts";
import { type EaselServer, startServer, tinyModel } from "./support/easel-server.ts";
import { type Field, form, leftHalfTransparent, noise } from "./support/forms.ts";

let server: EaselServer;
let photo: Buffer;
/** As large as the photo; its left half is transparent. */
let mask: Buffer;
beforeAll(async () => {
  server = await startServer({ EASEL_UPLOAD_LIMIT_BYTES: "100000", EASEL_MAX_UPLOAD_PIXELS: "20000" });
  photo = await noise(64, 48).png().toBuffer();
  mask = await leftHalfTransparent(noise(64, 48), 64, 48);
});
afterAll(() => server[Symbol.asyncDispose]());

interface Answer {
  data: { b64_json: string; size: string; seed?: number; upscaled_from?: string; upscale_method?: string }[];
  notices?: string[];
  usage?: { input_tokens_details: { text_tokens: number; image_tokens: number }; output_tokens: number };
  [field: string]: unknown;
}

const client = () => new OpenAI({ apiKey: server.key, baseURL: `${server.url}/v1`, maxRetries: 0 });
const upload = (data: Uint8Array, type = "image/png") => toFile(data, "picture", { type });
const sourceTypeOf = async (base64: string) => (await readMetadata(Buffer.from(base64, "base64"))).sourceType;
const pixelsOf = (base64: string) => sharp(Buffer.from(base64, "base64")).raw().toBuffer();

async function post(path: string, body: NonNullable<RequestInit["body"]>, headers: Record<string, string> = {}) {
  const authorization = `Bearer ${server.key}`;
  return await fetch(server.url + path, { method: "POST", body, headers: { authorization, ...headers } });
}

async function ask(path: string, fields: Record<string, Field>): Promise<Answer> {
  const response = await post(path, form(fields));
  expect(response.status, await response.clone().text()).toBe(200);
  return (await response.json()) as Answer;
}

const upscale = (fields: Record<string, Field>) => ask("/v1/images/upscale", { image: photo, ...fields });
const edit = (fields: Record<string, Field>) =>
  ask("/v1/images/edits", { image: photo, prompt: "a red hat", steps: "2", seed: "7", ...fields });
const drawnWith = async (strength: string) => await pixelsOf((await edit({ strength, steps: "10" })).data[0]!.b64_json);

/** Parameters of ours, which the client passes on. */
const twoSteps = { steps: 2 };

describe("OpenAI's own client", () => {
  test("edits a picture with a mask, and the picture stays as it was where the mask is opaque", async () => {
    const extra = { steps: 2, seed: 7 };
    const answer = await client().images.edit({
      image: await upload(photo),
      mask: await upload(mask),
      prompt: "a red hat",
      n: 2,
      quality: "high",
      input_fidelity: "high",
      ...extra,
    });
    expect(answer.data).toHaveLength(2);
    const [before, after] = [await sharp(photo).raw().toBuffer(), await pixelsOf(answer.data?.[0]?.b64_json ?? "")];
    const differing = (x: number) =>
      Array.from({ length: 48 }, (_, y) => (y * 64 + x) * 3).filter((at) => before[at] !== after[at]).length;
    expect(differing(4)).toBeGreaterThan(24);
    expect([36, 48, 63].map(differing)).toEqual([0, 0, 0]);
  });

  test("sends one picture of a list as image[]", async () => {
    const image = [await upload(photo)];
    const answer = await client().images.edit({ image, prompt: "a hat", ...twoSteps });
    expect(answer.data?.[0]).toMatchObject({ size: "64x48", model: tinyModel });
  });

  test("makes variations without words", async () => {
    const answer = await client().images.createVariation({ image: await upload(photo), n: 2, ...twoSteps });
    expect(answer.data).toHaveLength(2);
    expect(answer.data?.[0]?.b64_json).not.toBe(answer.data?.[1]?.b64_json);
  });

  test("streams an edit: previews, then the picture", async () => {
    const extra = { steps: 6 };
    const stream = await client().images.edit({
      image: await upload(photo),
      prompt: "a hat",
      stream: true,
      partial_images: 2,
      ...extra,
    });
    const events = await Array.fromAsync(stream);
    expect(events.map(({ type }) => type)).toEqual([
      "image_edit.partial_image",
      "image_edit.partial_image",
      "image_edit.completed",
    ]);
  });
});

describe("an edit", () => {
  test("leaves the picture the further the greater its strength, and the same seed gives the same", async () => {
    // The least change stands for the picture itself, of which this model's autoencoder makes another one.
    const least = await drawnWith("0.1");
    const distance = (pixels: Buffer) => pixels.reduce((sum, value, i) => sum + Math.abs(value - least[i]!), 0);
    const [little, much, again] = [await drawnWith("0.2"), await drawnWith("1"), await drawnWith("0.2")];
    expect(distance(little)).toBeLessThan(distance(much));
    expect(again.equals(little)).toBe(true);
  });

  test("without a mask repaints what is transparent in the picture itself", async () => {
    const { data } = await edit({ image: mask });
    const [before, after] = [await sharp(mask).removeAlpha().raw().toBuffer(), await pixelsOf(data[0]!.b64_json)];
    const at = (24 * 64 + 60) * 3;
    expect(after.subarray(at, at + 3)).toEqual(before.subarray(at, at + 3));
  });

  test("has the picture's size unless another is asked for, and says when it was fitted", async () => {
    expect(await edit({})).toMatchObject({ size: "64x48" });
    const odd = await noise(70, 50).jpeg().toBuffer();
    const fitted = await edit({ image: odd });
    expect(fitted).toMatchObject({ size: "64x48" });
    expect(fitted.notices).toContain("The given picture, 70x50, was fitted to 64x48.");
    expect(await edit({ size: "32x32" })).toMatchObject({ size: "32x32" });
  });

  test("takes the picture upright, as its Exif orientation says", async () => {
    const turned = await noise(64, 48).withMetadata({ orientation: 6 }).jpeg().toBuffer();
    expect(await edit({ image: turned })).toMatchObject({ size: "48x64" });
  });

  test("counts the given picture as input", async () => {
    const { usage } = await edit({ n: "2" });
    expect(usage).toMatchObject({ input_tokens_details: { text_tokens: 6, image_tokens: 12 }, output_tokens: 24 });
  });

  test("tells in its file whether it is the model's alone or a composite", async () => {
    const [whole, part] = [await edit({}), await edit({ mask })];
    expect(await sourceTypeOf(whole.data[0]!.b64_json)).toBe("trainedAlgorithmicMedia");
    expect(await sourceTypeOf(part.data[0]!.b64_json)).toBe("compositeWithTrainedAlgorithmicMedia");
  });
});

describe("upscaling", () => {
  test.each([
    ["2", "128x96"],
    ["4", "256x192"],
  ])("by %s gives %s and names its method", async (scale, size) => {
    const { data } = await upscale({ scale });
    expect(data).toMatchObject([{ size, upscaled_from: "64x48", upscale_method: "easel-upscale" }]);
    const { width, height } = await sharp(Buffer.from(data[0]!.b64_json, "base64")).metadata();
    expect(`${width}x${height}`).toBe(size);
  });

  test("keeps the marker that a model made the picture, and makes none up", async () => {
    const drawn = Buffer.from((await edit({})).data[0]!.b64_json, "base64");
    expect(await sourceTypeOf((await upscale({ image: drawn })).data[0]!.b64_json)).toBe("trainedAlgorithmicMedia");
    expect(await sourceTypeOf((await upscale({})).data[0]!.b64_json)).toBeUndefined();
  });

  test("on a generation draws at the size asked for and enlarges that", async () => {
    const response = await server.fetch("/v1/images/generations", {
      prompt: "a cat",
      size: "32x32",
      steps: 2,
      upscale: 4,
    });
    expect(await response.json()).toMatchObject({
      size: "128x128",
      data: [{ size: "128x128", upscaled_from: "32x32", upscale_method: "easel-upscale" }],
    });
  });

  test("is done by the upscaler that is named, and the answer says which", async () => {
    const [network, filter] = [await upscale({}), await upscale({ model: "lanczos3" })];
    expect(filter.data[0]!.upscale_method).toBe("lanczos3");
    expect(await pixelsOf(filter.data[0]!.b64_json)).not.toEqual(await pixelsOf(network.data[0]!.b64_json));
    expect((await pixelsOf(filter.data[0]!.b64_json)).length).toBe(128 * 96 * 3);
  });

  test("keeps transparency in PNG and WebP, and lays it on white in JPEG and says so", async () => {
    for (const format of ["png", "webp"]) {
      const { data, background, notices } = await upscale({ image: mask, output_format: format });
      const picture = sharp(Buffer.from(data[0]!.b64_json, "base64"));
      const { data: pixels, info } = await picture.raw().toBuffer({ resolveWithObject: true });
      expect(info).toMatchObject({ width: 128, height: 96, channels: 4 });
      expect([pixels[3], pixels[4 * 127 + 3], background, notices]).toEqual([0, 255, "transparent", undefined]);
    }
    const { data, background, notices } = await upscale({ image: mask, output_format: "jpeg" });
    const pixels = await pixelsOf(data[0]!.b64_json);
    expect([pixels[0]! > 250, background]).toEqual([true, "opaque"]);
    expect(notices).toEqual(["JPEG knows no transparency: the picture's transparent parts were laid on white."]);
  });

  test("turns a picture upright and tells what of the file was lost", async () => {
    const sideways = await noise(30, 20).toColourspace("rgb16").png().withMetadata({ orientation: 6 }).toBuffer();
    const { data, notices } = await upscale({ image: sideways });
    expect(data[0]).toMatchObject({ size: "40x60", upscaled_from: "20x30" });
    expect(notices).toEqual(["The picture's 16 bits a channel were reduced to 8."]);
  });

  test.each([
    [
      "an upscaler that is not there",
      { model: "../x4" },
      404,
      "model",
      /There is no upscaler "\.\.\/x4"; available: easel-upscale, lanczos3/,
    ],
    ["a drawing model", { model: tinyModel }, 404, "model", /There is no upscaler/],
    ["a scale of 3", { scale: "3" }, 400, "scale", /must be 2 or 4/],
  ])("refuses %s", async (_, fields, status, param, message) => {
    const response = await post("/v1/images/upscale", form({ image: photo, ...(fields as Record<string, Field>) }));
    expect(response.status).toBe(status);
    expect(await response.json()).toMatchObject({ error: { param, message: expect.stringMatching(message) } });
  });
});

describe("a form that cannot be used is a 400 that names the field", () => {
  const text = Buffer.from("not a picture");
  const cases: [string, Record<string, Field>, string | null, RegExp][] = [
    ["no picture", { prompt: "a" }, "image", /^image is required\.$/],
    ["no prompt", { image: "PHOTO" }, "prompt", /^prompt is required\.$/],
    ["a picture as text", { image: "cat.png", prompt: "a" }, "image", /must be a file, not a text/],
    ["a file that is no picture", { image: text, prompt: "a" }, "image", /must be a PNG, JPEG or WebP file/],
    ["an empty file", { image: new Uint8Array(), prompt: "a" }, "image", /must be a PNG, JPEG or WebP file/],
    ["two pictures", { image: ["PHOTO", "PHOTO"], prompt: "a" }, "image", /one picture/],
    ["two pictures in a list", { "image[]": ["PHOTO", "PHOTO"], prompt: "a" }, "image", /one picture/],
    ["two prompts", { image: "PHOTO", prompt: ["a", "b"] }, "prompt", /must be given once/],
    ["a prompt as a file", { image: "PHOTO", prompt: text }, "prompt", /must not be a file/],
    ["a file of another name", { image: "PHOTO", prompt: "a", logo: text }, "logo", /must not be a file/],
    ["an opaque mask", { image: "PHOTO", prompt: "a", mask: "PHOTO" }, "mask", /must have transparent pixels/],
    ["a strength of 0", { image: "PHOTO", prompt: "a", strength: "0" }, "strength", /above 0/],
    ["a strength of 2", { image: "PHOTO", prompt: "a", strength: "2" }, "strength", /from 0 to 1, not 2/],
    ["a strength in words", { image: "PHOTO", prompt: "a", strength: "much" }, "strength", /from 0 to 1, not "much"/],
    ["a hexadecimal n", { image: "PHOTO", prompt: "a", n: "0x2" }, "n", /whole number from 1 to 10, not "0x2"/],
    ["an empty n", { image: "PHOTO", prompt: "a", n: "" }, "n", /whole number/],
    ["a strange boolean", { image: "PHOTO", prompt: "a", stream: "1" }, "stream", /must be true or false/],
    ["a very long prompt", { image: "PHOTO", prompt: "x".repeat(200_000) }, "prompt", /too long/],
    ["a field without a proper name", { image: "PHOTO", prompt: "a", "../x": "1" }, null, /without a proper name/],
    ["a poisoned prototype", { image: "PHOTO", prompt: "a", __proto__x: "1", n: "0" }, "n", /whole number/],
  ];
  test.each(cases)("%s", async (_, fields, param, message) => {
    const withPhoto = (value: Field): Field =>
      value === "PHOTO" ? photo : Array.isArray(value) ? value.map(withPhoto) : value;
    const filled = Object.fromEntries(Object.entries(fields).map(([name, value]) => [name, withPhoto(value)]));
    const response = await post("/v1/images/edits", form(filled));
    expect(response.status).toBe(400);
    expect(await response.json()).toEqual({
      error: { message: expect.stringMatching(message), type: "invalid_request_error", param, code: "invalid_request" },
    });
  });

  test("a mask of another size says both sizes", async () => {
    const other = await leftHalfTransparent(noise(32, 32), 32, 32);
    const response = await post("/v1/images/edits", form({ image: photo, mask: other, prompt: "a" }));
    expect(await response.json()).toMatchObject({
      error: { param: "mask", message: "mask must be as large as the picture, 64x48, not 32x32." },
    });
  });

  test("a picture with too many pixels is refused before it is decoded", async () => {
    const large = await sharp({ create: { width: 400, height: 300, channels: 3, background: "#fff" } })
      .png()
      .toBuffer();
    const response = await post("/v1/images/edits", form({ image: large, prompt: "a" }));
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { param: "image", message: expect.stringMatching(/20000/) } });
  });

  test.each([
    ["a file over the limit", { image: Buffer.alloc(100_001, 1), prompt: "a" }],
    ["hundreds of fields", Object.fromEntries(Array.from({ length: 300 }, (_, i) => [`field${i}`, "x"]))],
  ])("%s is a 413", async (_, fields) => {
    const response = await post("/v1/images/edits", form(fields as Record<string, Field>));
    expect(response.status).toBe(413);
    expect(await response.json()).toMatchObject({ error: { code: "payload_too_large" } });
  });

  test("a fault before a large file is answered, not cut off", async () => {
    for (const size of [1e6, 8e6, 19e6]) {
      const response = await post("/v1/images/edits", form({ prompt: ["a", "b"], image: Buffer.alloc(size, 1) }));
      expect(response.status).toBe(400);
      expect(await response.json()).toMatchObject({ error: { param: "prompt" } });
    }
  });

  test("a client that leaves while it sends its picture is no fault of the server", async () => {
    const leaving = new AbortController();
    const endless = new ReadableStream({
      async pull(controller) {
        await new Promise((resolve) => setTimeout(resolve, 20));
        controller.enqueue(Buffer.from('--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\n'));
      },
    });
    setTimeout(() => leaving.abort(), 300);
    const headers = { authorization: `Bearer ${server.key}`, ...boundary };
    const init = { method: "POST", body: endless, headers, signal: leaving.signal, duplex: "half" } as const;
    await expect(fetch(`${server.url}/v1/images/edits`, init)).rejects.toThrow();
    expect((await server.fetch("/healthz")).status).toBe(200);
    expect(server.log.filter((line) => /"level":(50|60)/.test(line))).toEqual([]);
  });

  const boundary = { "content-type": "multipart/form-data; boundary=x" };
  test("a hundred thousand parts are a 413", async () => {
    const response = await post("/v1/images/edits", "--x\r\n".repeat(100_000), boundary);
    expect(response.status).toBe(413);
    expect(await response.json()).toMatchObject({ error: { code: "payload_too_large" } });
  });

  test.each([
    ["no boundary", "anything", { "content-type": "multipart/form-data" }],
    ["nothing at all", "", boundary],
    ["a form that ends too soon", '--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\na cat', boundary],
    [
      "a file that ends too soon",
      '--x\r\nContent-Disposition: form-data; name="image"; filename="a"\r\n\r\nabc',
      boundary,
    ],
    [
      "a part with a header of a megabyte",
      `--x\r\nContent-Disposition: form-data; name="prompt"\r\nX-Long: ${"a".repeat(1e6)}\r\n\r\na\r\n--x--\r\n`,
      boundary,
    ],
    [
      "a form in a form",
      "--x\r\nContent-Type: multipart/mixed; boundary=y\r\n\r\n--y\r\n\r\n--y--\r\n--x--\r\n",
      boundary,
    ],
    [
      "a prototype as a field",
      '--x\r\nContent-Disposition: form-data; name="__proto__"\r\n\r\n{"prompt":"a"}\r\n--x--\r\n',
      boundary,
    ],
    [
      "a file that is named like one of the system's",
      '--x\r\nContent-Disposition: form-data; name="image"; filename="../../../etc/passwd"\r\n\r\n\r\n--x--\r\n',
      boundary,
    ],
    ["a part without a name", "--x\r\nContent-Disposition: form-data\r\n\r\na\r\n--x--\r\n", boundary],
    ["no form", '{"prompt":"a"}', { "content-type": "application/json" }],
    ["bytes that are no form", "\0\0\0\r\n\r\n--x--", boundary],
  ])("%s", async (_, body, headers) => {
    const response = await post("/v1/images/edits", body, headers);
    expect(response.status).toBe(400);
    expect(await response.json()).toMatchObject({ error: { type: "invalid_request_error", code: "invalid_request" } });
  });
});
