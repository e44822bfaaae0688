/** Pictures in and out of the command line: formats, metadata, replay, image to image. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { tinyModelFolder } from "./support/easel-server.ts";
import { runCli } from "./support/run-cli.ts";

let cwd: string;
const file = (name: string) => join(cwd, name);
const cli = (...args: string[]) => runCli(args, { cwd });
const tiny = ["--model", tinyModelFolder, "--steps", "2"];
const small = [...tiny, "--size", "32x32"];
const draw = async (prompt: string, ...args: string[]) => {
  const run = await cli("generate", prompt, ...args);
  expect(run.code, run.stderr).toBe(0);
  return run;
};

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), "easel-pictures-"));
  await draw("a cat", ...small, "--seed", "7", "--out", "cat.png");
  writeFileSync(file("mask.png"), await leftHalfTransparent(32, 32));
});
afterAll(() => rmSync(cwd, { recursive: true }));

async function leftHalfTransparent(width: number, height: number): Promise<Buffer> {
  const pixels = Buffer.alloc(width * height * 4, 255);
  for (let i = 0; i < width * height; i++) if (i % width < width / 2) pixels[4 * i + 3] = 0;
  return await sharp(pixels, { raw: { width, height, channels: 4 } })
    .png()
    .toBuffer();
}

describe("easel generate", () => {
  test.each([
    ["cat.jpg", "jpeg"],
    ["cat.jpeg", "jpeg"],
    ["cat.WEBP", "webp"],
  ])("--out %s saves a %s file", async (name, format) => {
    await draw("a cat", ...small, "--out", name);
    expect(await sharp(readFileSync(file(name))).metadata()).toMatchObject({ format, width: 32, height: 32 });
  });

  test("--upscale enlarges the picture and says how", async () => {
    const { stdout } = await draw("a cat", ...small, "--upscale", "2", "--out", "large.png", "--json");
    expect(JSON.parse(stdout)).toMatchObject({
      images: [{ size: "64x64", upscaled_from: "32x32", upscale_method: "easel-upscale" }],
    });
    expect(await sharp(file("large.png")).metadata()).toMatchObject({ width: 64, height: 64 });
  });

  test("--quality low takes half the model's own steps", async () => {
    const model = ["--model", tinyModelFolder, "--size", "16x16"];
    const { stdout } = await draw("a cat", ...model, "--quality", "low", "--out", "low.png", "--json");
    expect(JSON.parse(stdout)).toMatchObject({ steps: 14 });
  });

  test("--image with a mask repaints what is transparent and keeps the rest pixel for pixel", async () => {
    await draw("a hat", ...tiny, "--image", "cat.png", "--mask", "mask.png", "--out", "hat.png");
    const [before, after] = await Promise.all(
      ["cat.png", "hat.png"].map(async (name) => await sharp(file(name)).raw().toBuffer()),
    );
    const differs = (x: number) => [0, 16, 31].some((y) => before![(y * 32 + x) * 3] !== after![(y * 32 + x) * 3]);
    expect(differs(3)).toBe(true);
    for (const x of [17, 25, 31]) expect(differs(x)).toBe(false);
  });

  test.each([
    [["--mask", "mask.png"], "--mask needs --image"],
    [["--lora", "nonesuch"], 'There is no LoRA "nonesuch"; available: none'],
    [["--lora", "./none.safetensors:0.5"], "--lora ./none.safetensors: there is no such file"],
    [["--lora", "a:99"], "--lora must be"],
    [["--strength", "0.5"], "--strength needs --image"],
    [["--image", "none.png"], "--image none.png: there is no such file"],
    [["--image", "."], "--image .: it is a folder"],
    [["--image", "cat.png", "--mask", "cat.png"], "--mask must have transparent pixels"],
    [["--image", "cat.png", "--strength", "0"], "--strength must be above 0"],
    [["--image", "cat.png", "--strength", "2"], "--strength must be a number from 0 to 1, not 2"],
    [["--upscale", "3"], "--upscale must be 2 or 4, not 3"],
    [["--quality", "best"], "--quality must be"],
    [["--compression", "101"], "--compression must be a whole number from 0 to 100"],
  ])("%j is wrong usage", async (args, sentence) => {
    const { code, stderr } = await cli("generate", "a cat", ...small, ...args, "--out", "no.png");
    expect(code).toBe(2);
    expect(stderr).toContain(sentence);
  });
});

test("a prompt that is too long for a JPEG's metadata is left out of it, and a notice says so", async () => {
  const prompt = "猫と犬".repeat(10_000);
  const { stdout } = await draw(prompt, ...small, "--out", "long.jpg", "--json");
  expect(JSON.parse(stdout).notices).toContain("The prompt is too long for a JPEG's metadata and was left out of it.");
  await draw(prompt, ...small, "--out", "long.webp");
  expect(await cli("replay", "long.webp", "--model", tinyModelFolder)).toMatchObject({ code: 0 });
});

describe("easel replay", () => {
  test("draws the same picture again and says that it is identical", async () => {
    const { code, stdout } = await cli("replay", "cat.png", "--model", tinyModelFolder);
    expect([code, stdout]).toEqual([0, "cat.png  identical\n"]);
  });

  test.each(["all.jpg", "all.webp"])("holds for %s, enlarged, compressed and with a negative prompt", async (name) => {
    const settings = ["--upscale", "2", "--compression", "70", "--negative-prompt", "dogs", "--guidance", "5"];
    await draw('a "cat" & <dog>, 猫 🐈', ...small, ...settings, "--out", name);
    expect(await cli("replay", name, "--model", tinyModelFolder)).toMatchObject({ code: 0 });
  });

  test("holds for the built-in model's pictures in sizes that it does not draw itself", async () => {
    const run = await draw("a white cat", "--steps", "2", "--size", "512x512", "--out", "large-cat.png");
    expect(run.stderr).toContain("the picture was enlarged to 512x512 by easel-upscale");
    expect(await cli("replay", "large-cat.png")).toMatchObject({ code: 0, stdout: "large-cat.png  identical\n" });
  });

  test("holds for an edit, when it is given what the edit was made from", async () => {
    await draw("a hat", ...tiny, "--image", "cat.png", "--mask", "mask.png", "--out", "edit.png");
    const model = ["--model", tinyModelFolder];
    const sources = ["--image", "cat.png", "--mask", "mask.png"];
    expect(await cli("replay", "edit.png", ...model, ...sources)).toMatchObject({ code: 0 });
    expect(await cli("replay", "edit.png", ...model)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("was made from another picture; give that with --image"),
    });
    expect(await cli("replay", "edit.png", ...model, "--image", "mask.png", "--mask", "mask.png")).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("is not the picture"),
    });
  });

  test("holds for a picture with a LoRA, when it is told where that is", async () => {
    const lora = join(tinyModelFolder, "..", "formats", "lora-diffusers.safetensors");
    await draw("a cat", ...small, "--seed", "7", "--lora", `${lora}:0.5`, "--out", "lora.png");
    expect(readFileSync(file("lora.png"))).not.toEqual(readFileSync(file("cat.png")));
    const model = ["--model", tinyModelFolder];
    expect(await cli("replay", "lora.png", ...model, "--lora", lora)).toMatchObject({ code: 0 });
    expect(await cli("replay", "lora.png", ...model)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining('There is no LoRA "lora-diffusers"'),
    });
  });

  test("tells a picture that was changed, by how much, with exit code 1", async () => {
    const { data, info } = await sharp(file("cat.png")).raw().toBuffer({ resolveWithObject: true });
    data[0] = (data[0]! + 100) % 256;
    const { xmp } = await sharp(file("cat.png")).metadata();
    const changed = sharp(data, { raw: { width: info.width, height: info.height, channels: 3 } });
    writeFileSync(file("changed.png"), await changed.withXmp(xmp!.toString()).png().toBuffer());
    const { code, stdout } = await cli("replay", "changed.png", "--model", tinyModelFolder, "--json");
    expect(code).toBe(1);
    expect(JSON.parse(stdout)).toMatchObject({ identical: false, share: 1 / 1024, most: expect.any(Number) });
  });

  test("a prompt that was left out is nowhere in the file, and has to be given", async () => {
    await draw("a very private prompt", ...small, "--no-embed-prompt", "--out", "private.png");
    expect(readFileSync(file("private.png")).includes("private")).toBe(false);
    expect(await cli("replay", "private.png", "--model", tinyModelFolder)).toMatchObject({
      code: 2,
      stderr: expect.stringContaining("does not tell its prompt; give it with --prompt"),
    });
    const again = ["--model", tinyModelFolder, "--prompt", "a very private prompt"];
    expect(await cli("replay", "private.png", ...again)).toMatchObject({ code: 0 });
  });

  test.each([
    ["none.png", "none.png: there is no such file"],
    ["mask.png", "mask.png has no record of its making"],
  ])("replay %s is wrong usage", async (name, sentence) => {
    expect(await cli("replay", name)).toMatchObject({ code: 2, stderr: expect.stringContaining(sentence) });
  });
});
