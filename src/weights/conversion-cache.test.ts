import { mkdirSync, mkdtempSync, readdirSync, realpathSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { float32, writeSafetensors } from "../../tests/support/weight-files.ts";
import { WeightsInvalidError } from "../errors.ts";
import { buildEntry, removeEntries } from "./conversion-cache.ts";
import { StoredWeights, WeightConverter } from "./converted-weights.ts";
import { WeightSource } from "./weight-source.ts";

let root: string;
let cacheDir: string;
beforeEach(() => {
  root = realpathSync(mkdtempSync(join(tmpdir(), "easel-cache-")));
  cacheDir = join(root, "cache");
});
afterEach(() => rmSync(root, { recursive: true }));

/** A converter of a small matrix. */
function converter(): { converter: WeightConverter; file: string } {
  const folder = join(root, "network");
  mkdirSync(folder, { recursive: true });
  const file = join(folder, "model.safetensors");
  writeSafetensors(file, {
    weight: float32(
      [4, 8],
      Array.from({ length: 32 }, (_, i) => i - 16),
    ),
  });
  const planned = new WeightConverter(WeightSource.openFolder(folder), { linear: "int8", int8Limit: 127 });
  planned.linear("weight", [4, 8]);
  return { converter: planned, file };
}

const entry = (name = "entry", sources = [join(root, "network", "model.safetensors")]) => {
  return { folder: join(cacheDir, name), sources };
};
const options = (changes: object = {}) => {
  return { signal: new AbortController().signal, neededBytes: 1000, onWaiting: () => {}, ...changes };
};

describe("a conversion", () => {
  test("is made once, however many ask for it, and is whole when it has its name", async () => {
    let made = 0;
    const make = () =>
      buildEntry(entry(), options(), async (folder) => {
        made++;
        expect(readdirSync(cacheDir)).not.toContain("entry");
        await converter().converter.write(folder);
      });
    await Promise.all([make(), make(), make()]);
    await make();
    expect([made, readdirSync(cacheDir)]).toEqual([1, ["entry"]]);
    const { length } = StoredWeights.open(entry().folder)!.get("weight", [8, 4]);
    expect(length).toBe(32);
  });

  test("tells its size before it is made", async () => {
    const { converter: planned } = converter();
    await buildEntry(entry(), options(), (folder) => planned.write(folder));
    expect(StoredWeights.open(entry().folder)).toBeDefined();
    expect(planned.bytes).toBe(2 * 4096); // a page for the values, one for the scales
    truncateSync(join(entry().folder, "weights.bin"), 4096);
    expect(StoredWeights.open(entry().folder)).toBeUndefined();
  });

  test("that fails leaves nothing: its file was cut short meanwhile, or somebody has had enough", async () => {
    const { converter: planned, file } = converter();
    truncateSync(file, 100);
    await expect(buildEntry(entry(), options(), (folder) => planned.write(folder))).rejects.toThrow(
      WeightsInvalidError,
    );
    expect(readdirSync(cacheDir)).toEqual([]);

    const enough = new AbortController();
    const { converter: again } = converter();
    const stopped = buildEntry(entry(), options({ signal: enough.signal }), async (folder) => {
      enough.abort(new Error("enough"));
      await again.write(folder, { signal: enough.signal });
    });
    await expect(stopped).rejects.toThrow("enough");
    expect(readdirSync(cacheDir)).toEqual([]);
  });

  test("takes the place of what a killed process left, and of what is not whole", async () => {
    for (const name of ["entry", "entry.tmp"]) {
      mkdirSync(join(cacheDir, name), { recursive: true });
      writeFileSync(join(cacheDir, name, "weights.bin"), "half");
    }
    await buildEntry(entry(), options(), (folder) => converter().converter.write(folder));
    expect(readdirSync(cacheDir)).toEqual(["entry"]);
    expect(StoredWeights.open(entry().folder)).toBeDefined();
  });

  test("is refused before it begins where the disk has no room for it", async () => {
    const made = buildEntry(entry(), options({ neededBytes: 2 ** 60 }), () => expect.unreachable());
    await expect(made).rejects.toMatchObject({
      code: "io_failed",
      message: expect.stringMatching(
        /^Converting the model needs .* TB on the disk of .*, where .* are free; free some/,
      ),
    });
    expect(readdirSync(cacheDir)).toEqual([]);
  });
});

const make = (name: string, sources: string[]) =>
  buildEntry(entry(name, sources), options(), (folder) => converter().converter.write(folder));

test("what was made of a model goes with it; what another model shares, or nobody knows, stays", async () => {
  await make("own", ["/models/a/transformer/one", "/models/a/transformer/two"]);
  await make("shared", ["/models/t5.gguf"]);
  await make("other", ["/models/ab/transformer/one"]);
  mkdirSync(join(cacheDir, "assembled"));
  const freedBytes = await removeEntries(cacheDir, {
    of: ["/models/a/transformer", "/models/t5.gguf"],
    except: ["/models/t5.gguf"],
  });
  expect(readdirSync(cacheDir).sort()).toEqual(["assembled", "other", "shared"]);
  expect(freedBytes).toBeGreaterThan(8192);
  expect(await removeEntries(join(root, "nowhere"), { of: ["/models"], except: [] })).toBe(0);
});
