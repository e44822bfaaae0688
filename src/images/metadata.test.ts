import * as fc from "fast-check";
import sharp from "sharp";
import { describe, expect, test } from "vitest";
import { encodeImage } from "./encode.ts";
import { imageFormats, metadataFits, readMetadata } from "./metadata.ts";

const size = { width: 5, height: 3 };
const image = { ...size, pixels: new Uint8Array(45).map((_, i) => (i * 37) % 256) };

async function pixelsOf(file: Uint8Array): Promise<Buffer> {
  return await sharp(file).raw().toBuffer();
}

describe.each(imageFormats)("a %s file", (format) => {
  test("gives back any record, and stays a picture that sharp reads", async () => {
    await fc.assert(
      fc.asyncProperty(fc.string({ unit: "binary" }), fc.string({ unit: "grapheme" }), async (prompt, parameters) => {
        const record = JSON.stringify({ prompt });
        const metadata = { record, parameters, sourceType: "trainedAlgorithmicMedia" } as const;
        const file = await encodeImage(image, { format, metadata });
        const read = await readMetadata(file);
        expect(read.sourceType).toBe("trainedAlgorithmicMedia");
        expect(JSON.parse(read.record!)).toEqual(JSON.parse(record));
        expect((await sharp(file).raw().toBuffer({ resolveWithObject: true })).info).toMatchObject(size);
      }),
      { numRuns: 30 },
    );
  });

  test("has the same pixels with metadata as without", async () => {
    const metadata = { record: "{}", parameters: "a cat" };
    expect(await pixelsOf(await encodeImage(image, { format, metadata }))).toEqual(
      await pixelsOf(await encodeImage(image, { format })),
    );
  });

  test("is the same to the byte when written again", async () => {
    const options = { format, quality: 50, metadata: { parameters: "a cat" } };
    expect(await encodeImage(image, options)).toEqual(await encodeImage(image, options));
  });

  test("without a record says so", async () => {
    expect(await readMetadata(await encodeImage(image, { format }))).toEqual({});
  });
});

test("the parameters are where other programs look: a PNG text, and UTF-16 in Exif's UserComment", async () => {
  const parameters = "a cat 🐈\nSteps: 4, Seed: 7";
  const png = await sharp(await encodeImage(image, { metadata: { parameters } })).metadata();
  expect(png.comments).toEqual([{ keyword: "parameters", text: parameters }]);
  for (const format of ["jpeg", "webp"] as const) {
    const { exif } = await sharp(await encodeImage(image, { format, metadata: { parameters } })).metadata();
    const at = exif!.indexOf("UNICODE\0") + 8;
    expect(Buffer.from(exif!.subarray(at)).swap16().toString("utf16le")).toBe(parameters);
  }
});

test("the IPTC marker is in the XMP packet, under the name that IPTC gave it", async () => {
  const metadata = { sourceType: "trainedAlgorithmicMedia" } as const;
  const { xmp } = await sharp(await encodeImage(image, { format: "jpeg", metadata })).metadata();
  expect(xmp?.toString()).toContain(
    "<Iptc4xmpExt:DigitalSourceType>http://cv.iptc.org/newscodes/digitalsourcetype/trainedAlgorithmicMedia<",
  );
  expect(xmp?.toString()).toContain('xmlns:Iptc4xmpExt="http://iptc.org/std/Iptc4xmpExt/2008-02-29/"');
});

test("what does not fit into one JPEG segment is known before", async () => {
  const longest = { parameters: "x".repeat(32_737) };
  expect(metadataFits(longest, "jpeg")).toBe(true);
  expect((await sharp(await encodeImage(image, { format: "jpeg", metadata: longest })).metadata()).width).toBe(5);
  const tooLong = { parameters: "x".repeat(32_738) };
  expect(metadataFits(tooLong, "jpeg")).toBe(false);
  expect(metadataFits(tooLong, "webp")).toBe(true);
  expect(metadataFits({ record: "x".repeat(65_400) }, "jpeg")).toBe(false);
});
