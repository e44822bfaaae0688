/** The enlarging networks against spandrel's, on tiny random weights. */
import { mkdtempSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { readUpscalerNetwork } from "../src/models/upscaler-network.ts";
import { Session } from "../src/onnx/session.ts";
import { fixturesDir, readFixtureTensors, relativeError } from "./oracle-fixtures.ts";
import { float32, writeSafetensors } from "./support/weight-files.ts";

/** Float32 sums in another order differ by about 1e-6; a wrong formula differs by far more than this. */
const tolerance = 1e-4;
const fixture = (name: string) => join(fixturesDir, "upscalers", `${name}.safetensors`);

describe("an enlarging network", () => {
  it.each([
    ["compact-x4", "SRVGGNetCompact", 4, 1],
    ["compact-leaky-x2", "SRVGGNetCompact", 2, 1],
    ["rrdb-x4", "RRDBNet", 4, 1],
    ["rrdb-x2", "RRDBNet", 2, 2],
  ])("%s gives spandrel's picture", async (name, architecture, factor, sideMultiple) => {
    const { image, [name]: expected } = readFixtureTensors("upscalers/recorded.safetensors");
    const network = readUpscalerNetwork(fixture(name));
    expect(network).toMatchObject({ architecture, factor, sideMultiple });
    const session = await Session.create(network.graph(), { device: "cpu", threads: 1 });
    const { enlarged } = await session.run({ image: image! });
    expect(enlarged!.dims).toEqual([1, 3, 12 * factor, 10 * factor]);
    expect(relativeError(enlarged!.data, expected!.data)).toBeLessThan(tolerance);
    await session.dispose();
  });

  it("under ESRGAN's older names is the same network", async () => {
    const { image, "rrdb-x4": expected } = readFixtureTensors("upscalers/recorded.safetensors");
    const { parameters } = readUpscalerNetwork(fixture("rrdb-x4"));
    const network = readUpscalerNetwork(fixture("esrgan-x4"));
    expect(network).toMatchObject({ architecture: "RRDBNet", factor: 4, parameters });
    const session = await Session.create(network.graph(), { device: "cpu", threads: 1 });
    const { enlarged } = await session.run({ image: image! });
    expect(relativeError(enlarged!.data, expected!.data)).toBeLessThan(tolerance);
    await session.dispose();
  });

  it("is refused as a pickle, with the way to convert it", () => {
    const file = join(mkdtempSync(join(tmpdir(), "easel-")), "RealESRGAN_x4plus.pth");
    writeFileSync(file, "PK");
    expect(() => readUpscalerNetwork(file)).toThrow(
      /RealESRGAN_x4plus\.pth is a pickle.*torch\.load\("RealESRGAN_x4plus\.pth", weights_only=True\).*RealESRGAN_x4plus\.safetensors/,
    );
  });

  it("is refused when the file is no safetensors file, whatever its name says", () => {
    const file = join(mkdtempSync(join(tmpdir(), "easel-")), "upscaler.safetensors");
    writeFileSync(file, "PK\u0003\u0004 a zip archive, as torch writes them");
    expect(() => readUpscalerNetwork(file)).toThrow(/not a usable safetensors file/);
  });

  it("is refused when the file holds another kind of network", () => {
    const file = join(mkdtempSync(join(tmpdir(), "easel-")), "other.safetensors");
    writeSafetensors(file, { "body.0.weight": float32([1], [0]) });
    const refusal = /other\.safetensors holds no network that Easel can enlarge with/;
    expect(() => readUpscalerNetwork(file)).toThrow(refusal);
    // One that doubles once: its layers after the blocks are others.
    const names = ["model.0", "model.1.sub.0.RDB1.conv1.0", "model.1.sub.1", "model.3", "model.5", "model.7"];
    writeSafetensors(file, Object.fromEntries(names.map((name) => [`${name}.weight`, float32([1], [0])])));
    expect(() => readUpscalerNetwork(file)).toThrow(refusal);
  });
});
