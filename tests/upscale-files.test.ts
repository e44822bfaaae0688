/** Pictures of all kinds through the upscaler, by HTTP: what goes in one way must come out the same, only larger. */
import sharp, { type Sharp } from "sharp";
import { afterAll, beforeAll, describe, expect, test, vi } from "vitest";
import type { Enlargement } from "../src/engine/engine.ts";
import { type EaselServer, startServer, until } from "./support/easel-server.ts";
import { form } from "./support/forms.ts";

const [width, height] = [60, 40];
let server: EaselServer;
/** No two of its corners are alike, and all of it changes slowly: what any filter makes of it is nearly the same. */
let original: Buffer;
beforeAll(async () => {
  server = await startServer();
  const pixels = Buffer.alloc(3 * width * height);
  for (let i = 0; i < width * height; i++) {
    const [x, y] = [(i % width) / width, Math.floor(i / width) / height];
    pixels.set([40 + 180 * x, 40 + 180 * y, 130 + 80 * Math.sin(4 * x + 2 * y)], 3 * i);
  }
  original = pixels;
});
afterAll(() => server[Symbol.asyncDispose]());

const picture = (): Sharp => sharp(original, { raw: { width, height, channels: 3 } });
/** With transparency that grows from left to right. */
const veiled = (): Sharp => {
  const pixels = Buffer.alloc(4 * width * height);
  for (let i = 0; i < width * height; i++) {
    original.copy(pixels, 4 * i, 3 * i, 3 * i + 3);
    pixels[4 * i + 3] = Math.round((255 * (i % width)) / (width - 1));
  }
  return sharp(pixels, { raw: { width, height, channels: 4 } });
};

interface Answer {
  data: [{ b64_json: string; size: string; upscaled_from: string }];
  background: string;
  notices?: string[];
}

const post = (body: FormData, init: RequestInit = {}) =>
  fetch(`${server.url}/v1/images/upscale`, {
    method: "POST",
    headers: { authorization: `Bearer ${server.key}` },
    body,
    ...init,
  });

async function upscale(image: Uint8Array, format = "png") {
  const response = await post(form({ image, output_format: format }));
  expect(response.status, await response.clone().text()).toBe(200);
  const { data, ...answer } = (await response.json()) as Answer;
  return { ...answer, ...data[0], file: Buffer.from(data[0].b64_json, "base64") };
}

/** On grey: what nobody can see of a transparent pixel may be of any colour. */
const asSeen = (file: Buffer) => sharp(file).flatten({ background: "#888" }).raw().toBuffer();

/** How far the larger picture is from `expected` on average, in levels of 255; a shift or a turn would be tens of levels. */
async function distance(file: Buffer, expected: Sharp, channels: 3 | 4 = 3): Promise<number> {
  const large = await expected
    .resize(2 * width, 2 * height, { kernel: "lanczos3" })
    .raw()
    .toBuffer();
  const { data, info } = await sharp(file).raw().toBuffer({ resolveWithObject: true });
  expect(info).toMatchObject({ width: 2 * width, height: 2 * height, channels });
  expect(data).toHaveLength(large.length);
  return data.reduce((sum, value, i) => sum + Math.abs(value - large[i]!), 0) / data.length;
}

describe("a file", () => {
  const formats = ["png", "jpeg", "webp"] as const;
  test.each(formats.flatMap((from) => formats.map((to) => [from, to] as const)))(
    "in %s becomes a larger one in %s",
    async (from, to) => {
      const { file, notices } = await upscale(await picture()[from]({ quality: 95 }).toBuffer(), to);
      expect((await sharp(file).metadata()).format).toBe(to);
      // Lossy files of both kinds are a level or two off by themselves.
      expect(await distance(file, picture())).toBeLessThan(3);
      expect(notices).toBeUndefined();
    },
  );

  test.each([1, 2, 3, 4, 5, 6, 7, 8])("with Exif's orientation %i is turned upright, once", async (orientation) => {
    const stored = await storedAs(orientation).withMetadata({ orientation }).png().toBuffer();
    const { file, size, upscaled_from } = await upscale(stored);
    expect([size, upscaled_from]).toEqual(["120x80", "60x40"]);
    expect(await distance(file, picture())).toBeLessThan(2);
    expect((await sharp(file).metadata()).orientation).toBeUndefined();
  });

  test("in another colour space keeps its look: it is converted to sRGB, and a notice says so", async () => {
    const wide = await picture().withIccProfile("p3").png().toBuffer();
    const asStored = sharp(wide, { ignoreIcc: true });
    const { file, notices } = await upscale(wide);
    expect(await distance(file, picture())).toBeLessThan(2);
    // The numbers in the file were others: reading them without the profile would be seen here.
    expect(await distance(file, asStored)).toBeGreaterThan(3);
    expect((await sharp(file).metadata()).icc).toBeUndefined();
    expect(notices).toEqual(["The picture's colours were converted from its own profile to sRGB."]);
  });

  test("in printing colours is converted to sRGB, and a notice says so", async () => {
    const { file, notices } = await upscale(await picture().toColourspace("cmyk").jpeg({ quality: 100 }).toBuffer());
    expect(notices).toEqual(["The picture's printing colours (CMYK) were converted to sRGB."]);
    // A press has fewer colours than a screen.
    expect(await distance(file, picture())).toBeLessThan(25);
  });

  test("of grey pixels stays grey", async () => {
    const { file } = await upscale(await picture().greyscale().png().toBuffer());
    const pixels = await sharp(file).raw().toBuffer();
    let colour = 0;
    for (let i = 0; i < pixels.length; i += 3) colour = Math.max(colour, Math.abs(pixels[i]! - pixels[i + 2]!));
    expect(colour).toBeLessThan(6);
  });

  test.each([
    ["opaque", picture, 3],
    ["with transparency", veiled, 4],
  ] as const)(
    "of 16 bits a channel, %s, gives what its 8 bits give, and a notice says so",
    async (_, make, channels) => {
      const deep = await make().toColourspace("rgb16").png().toBuffer();
      expect(await sharp(deep).metadata()).toMatchObject({ depth: "ushort", channels });
      const { file, notices } = await upscale(deep);
      expect(notices).toEqual(["The picture's 16 bits a channel were reduced to 8."]);
      const plain = await upscale(await make().png().toBuffer());
      expect((await sharp(file).metadata()).channels).toBe(channels);
      const [a, b] = await Promise.all([file, plain.file].map(asSeen));
      expect(a!.reduce((most, value, i) => Math.max(most, Math.abs(value - b![i]!)), 0)).toBeLessThanOrEqual(2);
    },
  );

  test.each(["png", "webp"] as const)("with transparency keeps it in %s", async (format) => {
    const { file, background } = await upscale(await veiled().png().toBuffer(), format);
    expect(background).toBe("transparent");
    const alpha = await sharp(file).extractChannel("alpha").raw().toBuffer();
    const row = alpha.subarray(40 * 2 * width, 41 * 2 * width);
    // A ramp stays a ramp: within a few levels of where it should be all along.
    for (const [x, value] of row.entries()) {
      expect(Math.abs(value - (255 * (x / 2 - 0.25)) / (width - 1)), `column ${x}`).toBeLessThan(8);
    }
  });
});

/** The picture as a camera that was held like this would store it: turning by Exif's orientation makes it upright. */
function storedAs(orientation: number): Sharp {
  const turned: Record<number, () => Sharp> = {
    2: () => picture().flop(),
    3: () => picture().rotate(180),
    4: () => picture().flip(),
    5: () => picture().rotate(270).flop(),
    6: () => picture().rotate(270),
    7: () => picture().rotate(90).flop(),
    8: () => picture().rotate(90),
  };
  return turned[orientation]?.() ?? picture();
}

describe("an enlargement that is long", () => {
  test("tells its progress tile by tile, and stops when it is cancelled", async () => {
    const image = { width: 1000, height: 1000, pixels: new Uint8Array(3e6).fill(99) };
    const plan = await server.engine.planEnlargement({ image, alpha: undefined, scale: 4 });
    const enlargement = server.engine.enqueueEnlargement(plan);
    const steps: string[] = [];
    for await (const event of enlargement.events) {
      if (event.type !== "progress") continue;
      steps.push(`${event.step} of ${event.steps}`);
      if (event.step === 2) enlargement.cancel();
    }
    expect(steps.slice(0, 2)).toEqual(["1 of 9", "2 of 9"]);
    // Whatever was under way when the message arrived may still be told.
    expect(steps.length).toBeLessThan(5);
    await expect(enlargement.result).rejects.toMatchObject({ code: "cancelled" });
  });

  test("stops when its client leaves, and costs the tiles that were done", async () => {
    const megapixelSteps = async () => {
      const { data } = (await (await server.fetch("/v1/usage")).json()) as { data: { megapixel_steps: number }[] };
      return data.reduce((sum, row) => sum + row.megapixel_steps, 0);
    };
    const before = await megapixelSteps();
    const enqueue = vi.spyOn(server.engine, "enqueueEnlargement");
    const leaving = new AbortController();
    const image = await sharp({ create: { width: 1000, height: 1000, channels: 3, background: "#48c" } })
      .png()
      .toBuffer();
    const answer = post(form({ image, scale: "4" }), { signal: leaving.signal });
    const left = expect(answer).rejects.toThrow(/aborted/);
    await until(() => enqueue.mock.results.length > 0);
    for await (const event of (enqueue.mock.results[0]!.value as Enlargement).events) {
      if (event.type === "progress" && event.step === 2) leaving.abort();
    }
    await left;
    let spent = 0;
    for (let i = 0; i < 500 && spent === 0; i++) spent = (await megapixelSteps()) - before;
    // Two to four of nine tiles, of 16 megapixels at one step each.
    expect(spent).toBeGreaterThanOrEqual((16 * 2) / 9 - 0.01);
    expect(spent).toBeLessThan((16 * 5) / 9);
  });
});
