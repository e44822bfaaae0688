/** `easel upscale`, and upscalers' files on the command line. */
import { copyFileSync, existsSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import sharp from "sharp";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { fixturesDir } from "./oracle-fixtures.ts";
import { until } from "./support/easel-server.ts";
import { runCli, startCli } from "./support/run-cli.ts";

let cwd: string;
const file = (name: string) => join(cwd, name);
const cli = (...args: string[]) => runCli(args, { cwd });

beforeAll(async () => {
  cwd = mkdtempSync(join(tmpdir(), "easel-cli-upscale-"));
  await sharp({ create: { width: 24, height: 16, channels: 3, background: "#48a" } }).toFile(file("sea.jpg"));
  copyFileSync(join(fixturesDir, "upscalers", "compact-x4.safetensors"), file("tiny.safetensors"));
});
afterAll(() => rmSync(cwd, { recursive: true }));

describe("easel upscale", () => {
  test("saves a picture twice as large beside the others, in the same format, and replaces nothing", async () => {
    const first = await cli("upscale", "sea.jpg");
    expect(first, first.stderr).toMatchObject({ code: 0, stdout: "sea-x2.jpg  48x32  by easel-upscale\n" });
    expect(await sharp(file("sea-x2.jpg")).metadata()).toMatchObject({ format: "jpeg", width: 48, height: 32 });
    const { data } = await sharp(file("sea-x2.jpg")).raw().toBuffer({ resolveWithObject: true });
    // A plain colour stays what it is.
    for (const [i, value] of [0x44, 0x88, 0xaa].entries()) expect(Math.abs(data[i]! - value)).toBeLessThan(5);
    expect(await cli("upscale", "sea.jpg")).toMatchObject({ stdout: "sea-x2-2.jpg  48x32  by easel-upscale\n" });
  });

  test("takes a file of weights, and tells the result as JSON", async () => {
    const args = ["sea.jpg", "--scale", "4", "--model", "tiny.safetensors", "--out", "large.webp", "--json"];
    const { stdout, code } = await cli("upscale", ...args);
    expect(code).toBe(0);
    expect(JSON.parse(stdout)).toMatchObject({
      file: "large.webp",
      size: "96x64",
      upscaled_from: "24x16",
      upscale_method: "tiny",
      notices: [],
    });
    expect(await sharp(file("large.webp")).metadata()).toMatchObject({ format: "webp", width: 96, height: 64 });
  });

  test("installs a file under its name by easel pull", async () => {
    const pulled = await cli("pull", "tiny.safetensors");
    expect(pulled).toMatchObject({ code: 0, stdout: expect.stringMatching(/^tiny is installed .*--model tiny\n$/) });
    expect(readdirSync(file("home/upscalers"))).toEqual(["tiny.safetensors"]);
    const { stdout } = await cli("upscale", "sea.jpg", "--model", "tiny", "--out", "named.png");
    expect(stdout).toBe("named.png  48x32  by tiny\n");
  });

  test("tells its tiles; Ctrl-C in between exits with 130 and saves nothing", async () => {
    await sharp({ create: { width: 1000, height: 1000, channels: 3, background: "#48a" } }).toFile(file("large.png"));
    const run = startCli(["upscale", "large.png", "--scale", "4"], { cwd });
    await until(() => /tile \d of 9/.test(run.output.stderr));
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(130);
    expect(run.output.stderr).toContain("easel: interrupted; nothing was saved.\n");
    expect([run.output.stdout, existsSync(file("large-x4.png"))]).toEqual(["", false]);
  });

  test.each([
    [["none.png"], 2, "none.png: there is no such file"],
    [["sea.jpg", "--scale", "3"], 2, "--scale must be 2 or 4, not 3"],
    [["sea.jpg", "--compression", "101"], 2, "--compression must be a whole number from 0 to 100"],
    [["sea.jpg", "--model", "nonesuch"], 1, 'There is no upscaler "nonesuch"; available: easel-upscale, lanczos3'],
    [["sea.jpg", "--model", "./none.onnx"], 1, "--model ./none.onnx: there is no such file"],
    [["sea.jpg", "--model", "sea.jpg"], 1, "sea.jpg is not a usable safetensors file"],
    [["sea.jpg", "--out", "large.gif"], 2, "--out must be a folder or a name that ends in"],
    [["tiny.safetensors"], 2, "tiny.safetensors must be a PNG, JPEG or WebP file"],
  ])("%j is refused with code %i in one sentence", async (args, code, message) => {
    const run = await cli("upscale", ...args);
    expect(run).toMatchObject({ code, stdout: "" });
    expect(run.stderr).toContain(`easel: ${message}`);
    expect(run.stderr.trim().split("\n")).toHaveLength(1);
  });

  test("refuses pickles with the way to convert them, and installs none", async () => {
    writeFileSync(file("RealESRGAN_x4plus.pth"), "PK");
    for (const args of [
      ["pull", "RealESRGAN_x4plus.pth"],
      ["upscale", "sea.jpg", "--model", "RealESRGAN_x4plus.pth"],
    ]) {
      const { code, stderr } = await cli(...args);
      expect([code, stderr]).toEqual([1, expect.stringContaining("RealESRGAN_x4plus.pth is a pickle")]);
    }
    expect(existsSync(file("home/upscalers/RealESRGAN_x4plus.pth"))).toBe(false);
  });
});
