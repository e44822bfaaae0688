import { crc32, deflateSync } from "node:zlib";
import * as fc from "fast-check";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { decodeImage } from "./decode.ts";

const limits = { maxPixels: 10_000 };
const decode = (file: Uint8Array) => decodeImage(file, "image", limits);
const red = { r: 255, g: 0, b: 0 };
const flat = (width: number, height: number, alpha = 1) =>
  sharp({ create: { width, height, channels: alpha < 1 ? 4 : 3, background: { ...red, alpha } } });

describe("a picture is read", () => {
  test.each([
    ["PNG", () => flat(6, 4).png()],
    ["WebP without loss", () => flat(6, 4).webp({ lossless: true })],
    ["PNG with a palette", () => flat(6, 4).png({ palette: true })],
    ["PNG of 16 bits", () => flat(6, 4).toColourspace("rgb16").png()],
  ])("from %s to the same pixels", async (_, make) => {
    const { image, alpha } = await decode(await make().toBuffer());
    expect(image).toMatchObject({ width: 6, height: 4 });
    expect([...image.pixels]).toEqual(Array.from({ length: 24 }, () => [255, 0, 0]).flat());
    expect(alpha).toBeUndefined();
  });

  test("from a grey JPEG as three equal channels", async () => {
    const { image } = await decode(await flat(6, 4).toColourspace("b-w").jpeg().toBuffer());
    expect(image.pixels).toHaveLength(72);
    expect(image.pixels[0]).toBe(image.pixels[1]);
  });

  test("upright, as its Exif orientation says", async () => {
    const { image } = await decode(await flat(6, 4).withMetadata({ orientation: 6 }).jpeg().toBuffer());
    expect(image).toMatchObject({ width: 4, height: 6 });
  });

  test("with its transparency apart, and white where nothing is", async () => {
    const { image, alpha } = await decode(await flat(6, 4, 0).png().toBuffer());
    expect(image.pixels.subarray(0, 3)).toEqual(Buffer.from([255, 255, 255]));
    expect(alpha).toMatchObject({ width: 6, height: 4 });
    expect(alpha?.pixels).toHaveLength(24);
    expect(alpha?.pixels[0]).toBe(0);
  });

  test("with the colours under its transparency as they are, when asked for", async () => {
    const file = await flat(6, 4, 0).png().toBuffer();
    const { image } = await decodeImage(file, "image", { ...limits, transparency: "kept" });
    expect(image.pixels.subarray(0, 3)).toEqual(Buffer.from([255, 0, 0]));
  });

  test("in sRGB when it was in another colour space, and says so", async () => {
    // P3's primaries are purer: the same orange is made of other numbers there.
    const orange = sharp({ create: { width: 2, height: 2, channels: 3, background: "#e06020" } });
    const inP3 = await orange.withIccProfile("p3").png().toBuffer();
    const { image, losses } = await decode(inP3);
    // Eight bits there and back lose a level or two.
    for (const [i, value] of [0xe0, 0x60, 0x20].entries()) expect(Math.abs(image.pixels[i]! - value)).toBeLessThan(3);
    const asStored = await sharp(inP3, { ignoreIcc: true }).raw().toBuffer();
    expect(Math.abs(asStored[0]! - 0xe0)).toBeGreaterThan(5);
    expect(losses).toEqual(["The picture's colours were converted from its own profile to sRGB."]);
    expect((await decode(await flat(2, 2).withIccProfile("srgb").png().toBuffer())).losses).toEqual([]);
  });

  test("with 8 bits a channel when it had 16, and says so", async () => {
    const { losses } = await decode(await flat(6, 4).toColourspace("rgb16").png().toBuffer());
    expect(losses).toEqual(["The picture's 16 bits a channel were reduced to 8."]);
    expect((await decode(await flat(6, 4).png().toBuffer())).losses).toEqual([]);
  });

  test("as opaque when it has an alpha channel and uses it nowhere", async () => {
    expect((await decode(await flat(6, 4).ensureAlpha().png().toBuffer())).alpha).toBeUndefined();
  });
});

describe("a file is refused in one sentence that names the field", () => {
  const cases: [string, () => Promise<Uint8Array> | Uint8Array, RegExp][] = [
    ["nothing", () => new Uint8Array(), /^image must be a PNG, JPEG or WebP file\.$/],
    ["an SVG", () => Buffer.from('<svg xmlns="http://www.w3.org/2000/svg"/>'), /must be a PNG, JPEG or WebP file/],
    ["a GIF", () => flat(6, 4).gif().toBuffer(), /must be a PNG, JPEG or WebP file/],
    ["a TIFF", () => flat(6, 4).tiff().toBuffer(), /must be a PNG, JPEG or WebP file/],
    ["half a PNG", async () => (await flat(60, 40).png().toBuffer()).subarray(0, 90), /damaged or incomplete/],
    ["half a JPEG", async () => (await noise(90, 90).jpeg().toBuffer()).subarray(0, 2000), /damaged or incomplete/],
    ["too many pixels", () => flat(200, 100).png().toBuffer(), /at most 10000 pixels in all, but 200x100 are 20000/],
    ["a strip", () => flat(1, 16_385).png().toBuffer(), /sides of at most 16384 pixels, not 1x16385/],
    ["an animation", () => animation(), /must be a still picture, not 2 frames/],
  ];
  test.each(cases)("%s", async (_, make, message) => {
    await expect(decode(await make())).rejects.toMatchObject({
      code: "invalid_request",
      param: "image",
      message: expect.stringMatching(message),
    });
  });

  test("a PNG that promises 60,000 × 60,000 pixels in 100 bytes, without the memory for them", async () => {
    const before = process.memoryUsage().rss;
    await expect(decode(pngBomb(60_000))).rejects.toMatchObject({ message: expect.stringContaining("60000x60000") });
    expect(process.memoryUsage().rss - before).toBeLessThan(200 * 2 ** 20);
  });

  test("a PNG whose data unpack to far more than its header says", async () => {
    await expect(decode(pngBomb(40, Buffer.alloc(200 * 2 ** 20)))).resolves.toMatchObject({ image: { width: 40 } });
  });

  test("whatever follows a known signature, never with an unexpected fault", async () => {
    const heads = [
      Buffer.from("\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "latin1"),
      Buffer.from("\xff\xd8\xff\xe0", "latin1"),
      Buffer.from("RIFF\x20\0\0\0WEBPVP8X", "latin1"),
    ];
    await fc.assert(
      fc.asyncProperty(fc.constantFrom(...heads), fc.uint8Array({ maxLength: 200 }), async (head, tail) => {
        await decode(Buffer.concat([head, tail])).catch((error: unknown) =>
          expect(error).toMatchObject({ code: "invalid_request", param: "image" }),
        );
      }),
    );
  });
});

function noise(width: number, height: number) {
  return sharp({
    create: { width, height, channels: 3, background: red, noise: { type: "gaussian", mean: 128, sigma: 40 } },
  });
}

async function animation(): Promise<Buffer> {
  const frames = [flat(6, 4), noise(6, 4)].map((frame) => frame.png().toBuffer());
  return await sharp(await Promise.all(frames), { join: { animated: true } })
    .webp()
    .toBuffer();
}

/** A PNG that says it is `side` × `side`, with `data` compressed. */
function pngBomb(side: number, data: Buffer = Buffer.alloc(0)): Buffer {
  const header = Buffer.alloc(13);
  header.writeUInt32BE(side, 0);
  header.writeUInt32BE(side, 4);
  header.set([8, 2, 0, 0, 0], 8);
  return Buffer.concat([
    Buffer.from("\x89PNG\r\n\x1a\n", "latin1"),
    chunk("IHDR", header),
    chunk("IDAT", deflateSync(data)),
    chunk("IEND", Buffer.alloc(0)),
  ]);
}

function chunk(type: string, data: Buffer): Buffer {
  const bytes = Buffer.alloc(12 + data.length);
  bytes.writeUInt32BE(data.length);
  bytes.write(type, 4, "latin1");
  data.copy(bytes, 8);
  bytes.writeUInt32BE(crc32(bytes.subarray(4, 8 + data.length)), 8 + data.length);
  return bytes;
}
