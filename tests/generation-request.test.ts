import * as fc from "fast-check";
import { describe, expect, test } from "vitest";
import { z } from "zod";
import { invalidRequest, requestFields } from "../src/engine/generation-request.ts";

const fields = requestFields({ maxImages: 10, minSide: 16, maxSide: 2048 });

/** The sentence with which `value` is refused as `name`, or undefined when it is accepted. */
function refusal(name: keyof typeof fields, value: unknown): string | undefined {
  const parsed = z.object({ [name]: fields[name] }).safeParse({ [name]: value });
  return parsed.success ? undefined : invalidRequest(parsed.error.issues).message;
}

describe("size", () => {
  test.each([
    ["abc", 'size must be "auto" or WIDTHxHEIGHT in pixels, such as 512x512, not "abc".'],
    ["1e9x1e9", 'size must be "auto" or WIDTHxHEIGHT in pixels, such as 512x512, not "1e9x1e9".'],
    ["-512x512", 'size must be "auto" or WIDTHxHEIGHT in pixels, such as 512x512, not "-512x512".'],
    ["512", 'size must be "auto" or WIDTHxHEIGHT in pixels, such as 512x512, not "512".'],
    [512, 'size must be "auto" or WIDTHxHEIGHT in pixels, such as 512x512, not 512.'],
    ["0x0", "size must have sides from 16 to 2048 pixels, not 0x0."],
    ["64x4096", "size must have sides from 16 to 2048 pixels, not 64x4096."],
    ["257x300", "size must have sides that are multiples of 16, such as 256x304, not 257x300."],
  ])("%s is refused with what would do", (size, sentence) => expect(refusal("size", size)).toBe(sentence));

  test("every multiple of 16 within the bounds is read as it is written", () => {
    const side = fc.integer({ min: 1, max: 128 }).map((cells) => cells * 16);
    fc.assert(
      fc.property(side, side, (width, height) => {
        expect(fields.size.parse(`${width}x${height}`)).toEqual({ width, height });
      }),
    );
  });

  test("auto leaves the choice to the model", () => expect(fields.size.parse("auto")).toBeUndefined());

  test("no text whatever is an unexpected fault", () => {
    fc.assert(fc.property(fc.string(), (text) => void fields.size.safeParse(text)));
  });
});

describe("prompt", () => {
  test.each([
    ["", "prompt must not be empty; describe the picture in words."],
    [" \n\t", "prompt must not be empty; describe the picture in words."],
    ["a".repeat(100_000), "prompt must have at most 32000 characters, but has 100000."],
    ["a\0b", "prompt must not contain null bytes."],
    ["\ud800", "prompt must be well-formed Unicode, without lone surrogates."],
    [undefined, "prompt is required."],
    [7, "prompt must be a text, not 7."],
  ])("case %#: a prompt that cannot be drawn is refused", (prompt, sentence) =>
    expect(refusal("prompt", prompt)).toBe(sentence),
  );

  test.each(["🐈‍⬛ in 🇮🇹", "ローマの白い猫", "قطة بيضاء", "x".repeat(32_000)])(
    "case %#: any script is a prompt",
    (prompt) => expect(refusal("prompt", prompt)).toBeUndefined(),
  );
});

describe("numbers", () => {
  test.each([0, 11, 1.5, -1, "2", true, null, Number.NaN])("n = %s is refused", (n) =>
    expect(refusal("numImages", n)).toContain("must be a whole number from 1 to 10"),
  );
  test.each([-1, 2 ** 53, 0.5, "text", Number.POSITIVE_INFINITY])("seed = %s is refused", (seed) =>
    expect(refusal("seed", seed)).toContain("must be a whole number from 0 to 9007199254740991"),
  );
  test.each([0, 2 ** 53 - 1])("seed = %s is accepted", (seed) => expect(refusal("seed", seed)).toBeUndefined());
});
