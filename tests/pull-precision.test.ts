/** `easel pull --precision`: what is converted, what is left when that is stopped, and who finds it. */
import { spawn, spawnSync } from "node:child_process";
import { createHash } from "node:crypto";
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "vitest";
import { knownModels } from "../src/engine/known-models.ts";
import { mayHaveGpu } from "../src/onnx/gpus.ts";
import { choosePrecision, countWeights } from "../src/pipelines/memory-plan.ts";
import { tinyModelFolder, until } from "./support/easel-server.ts";
import { writeSlowModel } from "./support/full-size.ts";
import { startHub } from "./support/hub-server.ts";
import { cliCommand, runCli, startCli } from "./support/run-cli.ts";

const draw = ["--size", "32x32", "--steps", "1", "--out", "cat.png"];

/** Holds `slow`, a model that takes a while to convert. */
let models: string;
beforeAll(() => {
  models = mkdtempSync(join(tmpdir(), "easel-slow-"));
  writeSlowModel(join(models, "slow"), tinyModelFolder);
});
afterAll(() => rmSync(models, { recursive: true }));

let cwd: string;
beforeEach(() => (cwd = mkdtempSync(join(tmpdir(), "easel-pull-precision-"))));
afterEach(() => rmSync(cwd, { recursive: true }));

type Environment = Record<string, string>;
const cli = (args: readonly string[], env: Environment = {}) => runCli(args, { cwd, env });
const start = (args: readonly string[], env: Environment = {}) => startCli(args, { cwd, env });
const cache = (name = "") => join(cwd, "home", "cache", name);
const cached = () => (existsSync(cache()) ? readdirSync(cache()).sort() : []);
const pullSlow = () => ["pull", join(models, "slow"), "--precision", "int8"];

/** Each converted network's content and identity on the disk. */
function contents(): [name: string, hash: string][] {
  return cached().map((name) => {
    const files = ["weights.bin", "index.json"].map((file) => readFileSync(cache(join(name, file))));
    return [name, createHash("sha256").update(Buffer.concat(files)).digest("hex")];
  });
}
const identities = () => cached().map((name) => [name, statSync(cache(join(name, "weights.bin"))).ino]);

const networks = [
  expect.stringMatching(/^text_encoder_2-int8-[0-9a-f]{16}$/),
  expect.stringMatching(/^transformer-int8-[0-9a-f]{16}$/),
];

/** Waits until the transformer's conversion is under way: some megabytes are written, and there are many to come. */
async function underWay(root = ""): Promise<void> {
  const writtenBytes = () => {
    const unfinished = existsSync(root + cache()) ? readdirSync(root + cache()) : [];
    const name = unfinished.find((one) => /^transformer-.*\.tmp$/.test(one));
    return name === undefined
      ? 0
      : (statSync(root + cache(join(name, "weights.bin")), { throwIfNoEntry: false })?.size ?? 0);
  };
  await until(() => writtenBytes() > 5e6, 60_000);
  expect(writtenBytes()).toBeLessThan(200e6);
}

describe("easel pull --precision", { timeout: 120_000 }, () => {
  test("converts after the download, with progress, and the first picture finds the result", async () => {
    await using hub = await startHub({ repository: "black-forest-labs/FLUX.1-dev", folder: tinyModelFolder });
    const env = { HF_ENDPOINT: hub.url };
    const { code, stdout, stderr } = await cli(["pull", "FLUX.1-dev", "--precision", "int8"], env);
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(/^FLUX\.1-dev is installed \(1\.6 MB, .*\nIt is converted to int8 \(1\.0 MB\)\.\n$/),
    ]);
    expect(stderr).toMatch(/^Converting to int8: 2 networks, 995 kB$[^]*^100 % /m);
    expect(cached()).toEqual(networks);

    const before = identities();
    const drawn = await cli(["generate", "a cat", "--model", "FLUX.1-dev", "--precision", "int8", ...draw]);
    expect(drawn.code).toBe(0);
    expect(identities()).toEqual(before);

    const again = await cli(["pull", "FLUX.1-dev", "--precision", "int8", "--json"], env);
    expect(JSON.parse(again.stdout)).toMatchObject({
      outcome: "already_here",
      precision: "int8",
      converted_bytes: expect.any(Number),
    });
    expect([again.stderr, identities()]).toEqual(["", before]);
  });

  test("spares the first picture what it says otherwise", async () => {
    const args = ["generate", "a cat", "--model", tinyModelFolder, "--precision", "int8", ...draw];
    expect((await cli(args)).stderr).toMatch(/^Converting the weights, this once: 995 kB of 995 kB$/m);
    expect((await cli(args)).stderr).not.toContain("Converting");
  });

  test("has nothing to do where the files run as they are, and says so", async () => {
    const { code, stdout } = await cli(["pull", tinyModelFolder, "--precision", "fp32"]);
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(/\nIn fp32 it runs as it is; there was nothing to convert\.\n$/),
    ]);
    expect(cached()).toEqual([]);
  });

  test("makes fp16 for GPUs, says what the CPU makes of it, and draws with it there too, saying so", async () => {
    const { code, stdout, stderr } = await cli(["pull", tinyModelFolder, "--precision", "fp16"]);
    expect([code, stdout]).toEqual([0, expect.stringMatching(/\nIt is converted to fp16 \(\d{3} kB\)\.\n$/)]);
    expect(stderr).toMatch(/^Converting to fp16: 2 networks, \d{3} kB$/m);
    if (!(await mayHaveGpu())) expect(stderr).toMatch(/^There is no GPU here\. fp16 is for GPUs; .*$/m);
    expect(cached()).toEqual([
      expect.stringMatching(/^text_encoder_2-fp16-[0-9a-f]{16}$/),
      expect.stringMatching(/^transformer-fp16-[0-9a-f]{16}$/),
    ]);

    const before = identities();
    const args = ["generate", "a cat", "--model", tinyModelFolder, "--precision", "fp16", "--device", "cpu", ...draw];
    const drawn = await cli([...args, "--json"]);
    expect(JSON.parse(drawn.stdout)).toMatchObject({
      device: "cpu",
      notices: ["fp16 is for GPUs; the CPU gains neither time nor memory by it. int8 saves both there."],
    });
    expect(identities()).toEqual(before);
  });

  test("refuses what there is not in one sentence", async () => {
    const { code, stderr } = await cli(["pull", tinyModelFolder, "--precision", "int3"]);
    expect([code, stderr]).toEqual([2, 'easel: --precision must be one of fp32, fp16, int8, int4, not "int3".\n']);
    expect(existsSync(join(cwd, "home"))).toBe(false);
  });

  test("is undone by easel rm, which says what that freed", async () => {
    await cli(["pull", tinyModelFolder, "--precision", "int8"]);
    await cli(["pull", tinyModelFolder, "--precision", "int4"]);
    expect(cached()).toHaveLength(4);
    const { code } = await cli(["rm", "flux-dev-tiny"]);
    expect([code, cached()]).toEqual([0, []]);
  });

  test("chooses the precision of the first picture too, where two would do", () => {
    const flux = { transformer: knownModels[0]!.transformer };
    const memory = { availableBytes: 20e9, totalBytes: 24e9 };
    expect(choosePrecision(flux, memory)).toBe("int8");
    expect(choosePrecision(flux, memory, (precision) => precision === "int4")).toBe("int4");
    const little = { availableBytes: 10e9, totalBytes: 24e9 };
    expect(choosePrecision(flux, little, (precision) => precision === "int8")).toBe("int4");
    expect(choosePrecision(countWeights(tinyModelFolder), memory, (precision) => precision === "int4")).toBe("fp32");
  });
});

describe("a conversion that is stopped", { timeout: 180_000 }, () => {
  test("by Ctrl-C leaves nothing half-made, and says how to go on", async () => {
    const run = start(pullSlow());
    await underWay();
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(130);
    expect(run.output.stderr).toMatch(/^easel: interrupted; go on with: easel pull .*\/slow --precision int8$/m);
    expect(cached()).toEqual([]);
  });

  test("by kill -9 leaves nothing that is taken for whole, and the next one clears up and makes a good one", async () => {
    const run = start(pullSlow());
    await underWay();
    run.child.kill("SIGKILL");
    expect(await run.ended).toBe("SIGKILL");
    expect(cached().filter((name) => !/\.(tmp|lock)(-journal)?$/.test(name))).toEqual([]);

    expect((await cli(pullSlow())).code).toBe(0);
    expect(cached()).toEqual(networks);
    const afterKill = contents();
    rmSync(cache(), { recursive: true });
    await cli(pullSlow()); // in peace
    expect(afterKill).toEqual(contents());
  });

  test("is not mistaken for whole when its file was cut short by other means", async () => {
    const pull = ["pull", tinyModelFolder, "--precision", "int8"];
    await cli(pull);
    const whole = contents();
    const [transformer] = cached().filter((name) => name.startsWith("transformer"));
    const file = cache(join(transformer!, "weights.bin"));
    writeFileSync(file, readFileSync(file).subarray(0, 10_000));
    await cli(pull);
    expect(contents()).toEqual(whole);
  });
});

describe("two processes", { timeout: 180_000 }, () => {
  test("that convert the same model at the same time make one good result: the second waits", async () => {
    const first = start(pullSlow());
    await underWay();
    const second = start(pullSlow());
    await until(
      () => second.output.stderr.includes("Another easel is converting the transformer of slow; waiting"),
      60_000,
    );
    const waited = cached();
    expect(await Promise.all([first.ended, second.ended])).toEqual([0, 0]);
    expect(waited.filter((name) => name.endsWith(".tmp"))).toHaveLength(1);
    expect(cached()).toEqual(networks);
    const together = contents();
    rmSync(cache(), { recursive: true });
    await cli(pullSlow());
    expect(together).toEqual(contents());
  });

  test("that pull and convert the same model at the same time fetch and convert it once", async () => {
    await using hub = await startHub({ repository: "black-forest-labs/FLUX.1-dev", folder: tinyModelFolder });
    const pull = ["pull", "FLUX.1-dev", "--precision", "int8"];
    const both = [start(pull, { HF_ENDPOINT: hub.url }), start(pull, { HF_ENDPOINT: hub.url })];
    expect(await Promise.all(both.map(({ ended }) => ended))).toEqual([0, 0]);
    const transformer = "transformer/diffusion_pytorch_model.safetensors";
    expect(hub.requestsFor(transformer)).toHaveLength(2); // the Hub, then its content server
    expect(readdirSync(join(cwd, "home", "models"))).toEqual(["FLUX.1-dev"]);
    expect(cached()).toEqual(networks);
    const drawn = await cli(["generate", "a cat", "--model", "FLUX.1-dev", "--precision", "int8", ...draw]);
    expect(drawn.code).toBe(0);
  });

  test("of which the first is killed: the second takes over", async () => {
    const first = start(pullSlow());
    await underWay();
    const second = start(pullSlow());
    await until(() => second.output.stderr.includes("waiting for it"), 60_000);
    first.child.kill("SIGKILL");
    expect(await second.ended).toBe(0);
    expect(cached()).toEqual(networks);
  });
});

const canMount = spawnSync("unshare", ["-rm", "true"]).status === 0;

/** The conversion with its home on a disk of its own; stdout ends with what is left in the cache. */
function convertOnto(disk: string) {
  mkdirSync(join(cwd, "home"));
  const { command, env } = cliCommand(pullSlow(), { cwd });
  const script = `mount -t tmpfs -o ${disk} tmpfs home && "$@"; code=$?; echo "left: $(ls -A home/cache)"; exit $code`;
  const child = spawn("unshare", ["-rm", "sh", "-c", script, "sh", ...command], { cwd, env });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output.stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (output.stderr += chunk));
  const ended = new Promise<number | null>((resolve) => child.on("close", (code) => resolve(code)));
  return { ended, output, root: `/proc/${child.pid}/root` };
}

describe("a disk", { timeout: 120_000 }, () => {
  test.skipIf(!canMount)("that is too small for the result is noticed before anything is converted", async () => {
    const { ended, output } = convertOnto("size=200m");
    expect(await ended).toBe(1);
    expect(output.stderr).toMatch(
      /^easel: Converting the model needs 27\d MB on the disk of .*\/cache, where \d\d\d MB are free; free some space, or set EASEL_HOME to a folder on a larger disk\.$/m,
    );
    expect(output.stdout).toBe("left: \n");
  });

  test.skipIf(!canMount)("that fills up on the way is one sentence, and nothing half-made is left", async () => {
    const { ended, output, root } = convertOnto("size=400m");
    await underWay(root);
    try {
      writeFileSync(join(root, cwd, "home", "filler"), Buffer.alloc(400 * 1024 * 1024));
    } catch {} // it is full now, as intended
    expect(await ended).toBe(1);
    const told = output.stderr.split("\n").filter((line) => line.startsWith("easel:"));
    expect(told).toEqual([
      expect.stringMatching(
        /^easel: .*\/cache could not be written: the disk is full; free some space and run the same command again/,
      ),
    ]);
    expect(output.stdout).toBe("left: \n");
  });
});
