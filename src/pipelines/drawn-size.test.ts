import { describe, expect, test } from "vitest";
import { DrawingResizer, resizingNotice } from "./drawn-size.ts";
import { builtInUpscalerFile } from "./built-in-upscaler.ts";
import { UpscalePipeline } from "./upscale-pipeline.ts";

const size = (text: string) => {
  const [width, height] = text.split("x").map(Number);
  return { width: width!, height: height! };
};

describe("the notice of a picture that was drawn at another size", () => {
  test.each([
    ["256x256", "256x256", undefined],
    ["256x256", "128x128", "This model draws 256x256; the picture was reduced to 128x128."],
    ["256x256", "272x272", "This model draws 256x256; the picture was enlarged to 272x272 by easel-upscale."],
    ["416x256", "1024x640", "This model draws 416x256; the picture was enlarged to 1024x640 by easel-upscale."],
    [
      "256x256",
      "2048x2048",
      "This model draws 256x256; the picture was enlarged to 2048x2048, 4 times by easel-upscale and the rest by interpolation.",
    ],
  ])("%s for %s says what was done: %s", (drawn, asked, notice) => {
    expect(resizingNotice(size(drawn), size(asked))).toBe(notice);
  });
});

describe("a drawing", () => {
  const drawing = { ...size("48x32"), pixels: Uint8Array.from({ length: 3 * 48 * 32 }, (_, i) => (i * i) % 251) };
  const fitted = async (text: string) => {
    const resizer = new DrawingResizer({ device: "cpu", threads: 1 });
    const picture = await resizer.resize(drawing, size(text), undefined);
    await resizer.dispose();
    return picture;
  };

  test.each([
    ["96x64", 2],
    ["192x128", 4],
  ] as const)("becomes one of %s by the built-in network alone", async (text, factor) => {
    const pipeline = await UpscalePipeline.load({ file: builtInUpscalerFile(factor), device: "cpu", threads: 1 });
    const { image } = await pipeline.enlarge({ image: drawing, alpha: undefined }, factor);
    await pipeline.dispose();
    expect(await fitted(text)).toEqual(image);
  });

  test.each(["64x48", "144x80", "400x300", "24x16", "48x32"])("becomes one of %s", async (text) => {
    const picture = await fitted(text);
    expect(picture).toMatchObject(size(text));
    expect(picture.pixels).toHaveLength(3 * picture.width * picture.height);
  });

  test("is not enlarged for whoever has left", async () => {
    const resizer = new DrawingResizer({ device: "cpu", threads: 1 });
    const left = resizer.resize(drawing, size("96x64"), AbortSignal.abort());
    await expect(left).rejects.toMatchObject({ code: "cancelled" });
    await resizer.dispose();
  });
});
