/** Networks in memory together, or in turns. */
import { join } from "node:path";
import { describe, expect, test, vi } from "vitest";
import { ConfigReader } from "../src/models/config-reader.ts";
import { clipTextEncoder, parseClipTextConfig } from "../src/models/clip-text-encoder.ts";
import { parseT5Config, t5Encoder } from "../src/models/t5-encoder.ts";
import { PromptEncoder } from "../src/pipelines/encode-prompt.ts";
import { NetworkLoader } from "../src/pipelines/network-loader.ts";
import { type Network, ResidentNetworks } from "../src/pipelines/resident-networks.ts";
import { fixturesDir } from "./oracle-fixtures.ts";

const modelDir = join(fixturesDir, "flux-dev-tiny");
const loader = () => new NetworkLoader({ modelDir, device: "cpu", threads: 1, precision: "fp32", cacheDir: undefined });
const clipConfig = parseClipTextConfig(ConfigReader.read(join(modelDir, "text_encoder")));
const t5Config = parseT5Config(ConfigReader.read(join(modelDir, "text_encoder_2")));

const clip: Network = {
  place: "clip",
  component: "text_encoder",
  graph: (weights) => clipTextEncoder(clipConfig, weights),
};
const t5: Network = { place: "t5", component: "text_encoder_2", graph: (weights) => t5Encoder(t5Config, weights) };

describe("a model's networks", () => {
  test("stay in memory while there is room", async () => {
    const networks = new ResidentNetworks(loader(), () => Infinity);
    const first = await networks.get(clip, 0);
    await networks.get(t5, 0);
    expect(await networks.get(clip, 0)).toBe(first);
    await networks.dispose();
  });

  test("make room for one another, the one unused for longest first", async () => {
    let available = Infinity;
    const networks = new ResidentNetworks(loader(), () => available);
    const first = await networks.get(clip, 0);
    const second = await networks.get(t5, 0);
    await networks.get(clip, 0); // now T5 is the one unused for longest
    const disposed = [vi.spyOn(first, "dispose"), vi.spyOn(second, "dispose")];
    disposed[1]!.mockImplementationOnce(async () => {
      available = 1000; // what it gives back is enough
    });
    available = 0;
    await networks.get({ ...t5, place: "another" }, 1000 - (await networks.prepare(t5)).weightBytes);
    expect(disposed.map((spy) => spy.mock.calls.length)).toEqual([0, 1]);
    expect(await networks.get(clip, 0)).toBe(first);
    await networks.dispose();
  });

  test("take turns by what is loaded, where that alone tells what is left, as on a GPU", async () => {
    const bytes = async (network: Network) => (await networks.prepare(network)).weightBytes;
    let total = Infinity;
    const networks = new ResidentNetworks(loader(), (loadedBytes) => total - loadedBytes);
    const [clipBytes, t5Bytes] = [await bytes(clip), await bytes(t5)];
    total = clipBytes + t5Bytes;
    const first = await networks.get(clip, 0);
    const second = await networks.get(t5, 0);
    expect(await networks.get(clip, 0)).toBe(first);
    expect(await networks.get(t5, 0)).toBe(second);
    const gone = vi.spyOn(first, "dispose");
    await networks.get(t5, 1); // a byte more
    expect(gone).toHaveBeenCalledOnce();
    await networks.dispose();
  });

  test("leave one by one when nothing suffices, and the one in use stays", async () => {
    const networks = new ResidentNetworks(loader(), () => 0);
    const first = await networks.get(clip, 0);
    const gone = vi.spyOn(first, "dispose");
    const second = await networks.get(t5, 0);
    expect(gone).toHaveBeenCalledOnce();
    expect(await networks.get(t5, 1e9)).toBe(second);
    await networks.dispose();
  });

  test("a prompt that was encoded lately takes none of them; another one does, with the same result", async () => {
    const networks = new ResidentNetworks(loader(), () => Infinity);
    const encoder = new PromptEncoder(modelDir, networks);
    const get = vi.spyOn(networks, "get");
    const first = await encoder.encode("A white cat", 32);
    const calls = get.mock.calls.length;
    expect(calls).toBe(2);
    expect(await encoder.encode("A white cat", 32)).toBe(first);
    expect(get.mock.calls.length).toBe(calls);
    for (let i = 0; i < 16; i++) await encoder.encode(`cat ${i}`, 32);
    const again = await encoder.encode("A white cat", 32);
    expect(again).not.toBe(first);
    expect(again).toEqual(first);
    await networks.dispose();
  });
});
