/** `easel doctor`: on this machine as it is, on others that are made up, and where something is broken. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, rmSync, truncateSync, writeFileSync } from "node:fs";
import { availableParallelism, tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { toCheckupJson } from "../src/cli/checkup-json.ts";
import { describeCheckup } from "../src/cli/checkup-text.ts";
import { examine } from "../src/engine/checkup.ts";
import type { Machine } from "../src/onnx/device-choice.ts";
import type { Trial } from "../src/onnx/device-trial.ts";
import type { ResolvedDevice } from "../src/onnx/devices.ts";
import { tinyModelFolder } from "./support/easel-server.ts";
import { runCli } from "./support/run-cli.ts";

let cwd: string;
let home: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), "easel-doctor-"));
  home = join(cwd, "home");
});
afterEach(() => rmSync(cwd, { recursive: true }));

const cli = (args: readonly string[], env: Record<string, string> = {}) => runCli(args, { cwd, env });

interface Json {
  ok: boolean;
  problems: string[];
  processor: { cores: number };
  memory: { available_bytes: number; total_bytes: number };
  devices: { device: string; works: boolean; gflops: number | null }[];
  models: {
    name: string;
    state: string;
    converted: string[];
    outlook: {
      device: string;
      precision: string;
      fits: string;
      precisions: { precision: string; needed_bytes: number; fits: boolean }[];
    } | null;
  }[];
}

async function doctor(env: Record<string, string> = {}): Promise<{ code: unknown; json: Json; stderr: string }> {
  const { code, stdout, stderr } = await cli(["doctor", "--json"], env);
  return { code, json: JSON.parse(stdout) as Json, stderr };
}
const modelIn = (json: Json, name: string) => json.models.find((model) => model.name === name);

/** A machine whose devices do in trials what `trials` says; nothing else is installed. */
function machine(trials: Partial<Record<ResolvedDevice, Trial>>, gpuBytes?: number): Machine & { tried: string[] } {
  const tried: string[] = [];
  return {
    tried,
    missingParts: (device) => Promise.resolve(trials[device] ? undefined : `there is no ${device}`),
    mayHaveGpu: () => Promise.resolve(gpuBytes !== undefined),
    listGpus: () => Promise.resolve(gpuBytes === undefined ? [] : [{ name: "Some GPU", memoryBytes: gpuBytes }]),
    tryDevice: (device) => {
      tried.push(device);
      return Promise.resolve(trials[device]!);
    },
  };
}
const works = (gigaOperations: number, { attends = true, halfPrecision = true } = {}): Trial => {
  return { works: true, operationsPerSecond: gigaOperations * 1e9, attends, halfPrecision };
};

/** A system of 64 GB, and what its other files say. */
function system(files: Record<string, string> = {}): string {
  const root = join(cwd, "system");
  const basics = {
    "proc/meminfo": "MemTotal: 62500000 kB\nMemAvailable: 58593750 kB\n",
    "proc/cpuinfo": "model name : Some Processor\nflags : avx2 avx512f avx512_vnni\n",
  };
  for (const [path, text] of Object.entries({ ...basics, ...files })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

/** Gigabytes. */
const systemOf = (total: number, available: number) =>
  system({ "proc/meminfo": `MemTotal: ${total * 976_562} kB\nMemAvailable: ${available * 976_562} kB\n` });

const look = (root: string, here: Machine, precision: "auto" | "fp16" = "auto") => {
  const settings = {
    home,
    hubCache: join(home, "hub"),
    model: "easel-sketch",
    device: "auto",
  } as const;
  return examine({ ...settings, precision, root, machine: here });
};

describe("easel doctor", () => {
  test("tells of this machine, of what is here and would run, and changes nothing", async () => {
    const { code, json, stderr } = await doctor();
    expect([code, json.ok, json.problems, stderr]).toEqual([0, true, [], ""]);
    expect(json.processor.cores).toBe(availableParallelism());
    expect(json.memory.total_bytes).toBeLessThanOrEqual(totalmem());
    expect(json.memory.available_bytes).toBeLessThanOrEqual(json.memory.total_bytes);
    expect(json.devices.map(({ device }) => device).slice(0, 3)).toEqual(["cpu", "webgpu", "cuda"]);
    expect(json.devices[0]).toMatchObject({ works: true });
    expect(json.devices[0]!.gflops).toBeGreaterThan(0);
    expect(modelIn(json, "easel-sketch")).toMatchObject({
      state: "built-in",
      outlook: { device: "cpu", precision: "fp32", fits: "now" },
    });
    const flux = modelIn(json, "FLUX.1-dev");
    expect(flux).toMatchObject({ state: "not_installed", outlook: {} });
    const needed = flux!.outlook!.precisions.map(({ needed_bytes }) => Math.round(needed_bytes / 1e8) / 10);
    expect(needed).toEqual([100.2, 13, 8.3]); // as docs/models.md has them
    expect(existsSync(home)).toBe(false);
  });

  test("says it in words where nobody asks for JSON", async () => {
    const { code, stdout } = await cli(["doctor"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^Easel \d+\.\d+\.\d+, ONNX Runtime 1\.\d+\.\d+, Node 2\d\.\d+\.\d+$/m);
    expect(stdout).toMatch(/^Processor {3}.+, \d+ cores?: .+$/m);
    expect(stdout).toMatch(/^Memory {6}\d.* available of \d.*$/m);
    expect(stdout).toMatch(/^Devices {5}cpu {5}works, \d+ GFLOP\/s in fp32$/m);
    expect(stdout).toMatch(/^Upscalers {3}easel-upscale, lanczos3$/m);
    expect(stdout).toMatch(/^easel-sketch: built-in; runs in fp32 on the CPU: the model is small$/m);
    expect(stdout).toMatch(/^FLUX\.1-schnell: not installed; /m);
    expect(stdout).toMatch(/\nAll that is needed works\.\n$/);
  });

  test("tells what installed models were converted to, and what the cache takes", async () => {
    await cli(["pull", tinyModelFolder, "--precision", "int8"]);
    const { json } = await doctor();
    expect(modelIn(json, "flux-dev-tiny")).toMatchObject({ state: "linked", converted: ["int8"] });
    expect((json as unknown as { disk: { cache_bytes: number } }).disk.cache_bytes).toBeGreaterThan(100_000);
  });
});

describe("a machine that is made up", () => {
  test("with less memory for this container than the machine has is judged by the limit", async () => {
    const root = system({
      "proc/self/cgroup": "0::/\n",
      "sys/fs/cgroup/memory.max": "10000000000\n",
      "sys/fs/cgroup/memory.current": "1000000000\n",
    });
    const checkup = await look(root, machine({ cpu: works(100) }));
    const text = describeCheckup(checkup);
    expect(text).toContain(
      "Memory      9.0 GB available of 10.0 GB, the limit of this container, service or configuration; the machine has 64.0 GB\n",
    );
    expect(text).toContain(
      "FLUX.1-dev: not installed; would run in int4 on the CPU: there is no GPU\n" +
        "  memory on the CPU: fp32 does not fit (100 GB), int8 does not fit (13.0 GB), int4 fits (8.3 GB); 9.0 GB available\n",
    );
    expect(text).toMatch(/^ {2}download: 33\.7 GB, the disk has /m);
    expect(checkup.problems).toEqual([]);
  });

  test("with too little memory says whether ending other programs would help", async () => {
    const later = describeCheckup(await look(systemOf(24, 4), machine({ cpu: works(100) })));
    expect(later).toContain("FLUX.1-dev: not installed; fits in int8 on the CPU when other programs end\n");
    const never = describeCheckup(await look(systemOf(4, 3), machine({ cpu: works(100) })));
    expect(never).toContain("FLUX.1-dev: not installed; does not fit: int8 needs 13.0 GB of memory\n");
  });

  test("with a GPU that is worth it runs large models there, and small ones on the CPU", async () => {
    const here = machine({ cpu: works(200), webgpu: works(20_000, { attends: false }) }, 80e9);
    const checkup = await look(system(), here);
    const text = describeCheckup(checkup);
    expect(text).toContain("GPU         Some GPU (80.0 GB)\n");
    expect(text).toContain(
      "            webgpu  works, 20000 GFLOP/s in fp32, fp16 too; attention is left to the CPU\n",
    );
    expect(text).toContain("            cuda    not usable: there is no cuda\n");
    expect(text).toContain("FLUX.1-dev: not installed; would run in fp16 on WebGPU: it was 100.0 times as fast");
    expect(text).toContain("easel-sketch: built-in; runs in fp32 on the CPU: the model is small\n");
    expect(toCheckupJson(checkup)).toMatchObject({ gpus: [{ name: "Some GPU", memory_bytes: 80e9 }], ok: true });
  });

  test.each([
    ["enough for fp32", 80e9, "would run in fp32 on WebGPU: it was 100.0 times as fast"],
    ["enough for half of it", 30e9, "would run in int4 on WebGPU: it was 100.0 times as fast"],
    ["too little", 6e9, "would run in int8 on the CPU: the GPU has too little memory for the model"],
  ])("with a GPU that has no half precision does without fp16: %s", async (_, gpuBytes, outlook) => {
    const here = machine({ cpu: works(200), webgpu: works(20_000, { halfPrecision: false }) }, gpuBytes);
    const text = describeCheckup(await look(system(), here));
    expect(text).toContain("            webgpu  works, 20000 GFLOP/s in fp32, no fp16\n");
    expect(text).toContain(`FLUX.1-dev: not installed; ${outlook}`);
    expect(text).not.toContain("in fp16");
  });

  test.each([
    ["where it has the memory for it", 30e9, "fp16"],
    ["int4 where it has not", 20e9, "int4"],
  ])("with a GPU takes fp16 %s", async (_, gpuBytes, precision) => {
    const here = machine({ cpu: works(200), cuda: works(20_000) }, gpuBytes);
    expect(describeCheckup(await look(system(), here))).toContain(
      `FLUX.1-dev: not installed; would run in ${precision} on CUDA: `,
    );
  });

  test("with fp16 asked for and no GPU tells what the CPU would need for it", async () => {
    const here = machine({ cpu: works(200) });
    const text = describeCheckup(await look(system(), here, "fp16"));
    expect(text).toMatch(/^FLUX\.1-dev: not installed; does not fit: fp16 needs 7\d\.\d GB of memory$/m);
    expect(text).toMatch(/^easel-sketch: built-in; runs in fp16 on the CPU: the model is small$/m);
    expect(text).toMatch(/^ {2}memory on the CPU: fp32 does not fit \(100 GB\), int8 fits /m);
  });

  test("with a driver that hangs says so, and needs nothing of it", async () => {
    const hanging: Trial = { works: false, reason: "it did not answer within 20 seconds" };
    const checkup = await look(system(), machine({ cpu: works(200), webgpu: hanging }, 8e9));
    expect(describeCheckup(checkup)).toMatch(
      / {12}webgpu {2}not usable: it did not answer within 20 seconds; it needs a GPU with .*\n/,
    );
    expect(checkup.problems).toEqual([]);
  });

  test.skipIf(process.arch !== "x64" || process.platform !== "linux")(
    "has its processor told by what networks gain from",
    async () => {
      const text = describeCheckup(await look(system(), machine({ cpu: works(200) })));
      expect(text).toMatch(/^Processor {3}Some Processor, \d+ cores?: AVX2, AVX-512, VNNI; without AMX$/m);
      const old = system({ "proc/cpuinfo": "model name : Old\nflags : avx2\n" });
      expect(describeCheckup(await look(old, machine({ cpu: works(200) })))).toContain(
        "AVX2; without AVX-512, VNNI, AMX (int8 is a little less exact without VNNI)\n",
      );
    },
  );

  test("on which ONNX Runtime does not work is broken, with what to do", async () => {
    const checkup = await look(system(), machine({ cpu: { works: false, reason: "its driver crashed (SIGILL)" } }));
    expect(checkup.problems).toEqual([
      "ONNX Runtime does not work on the CPU: its driver crashed (SIGILL); install Easel's packages again with: npm ci",
    ]);
    expect(describeCheckup(checkup)).toMatch(/\nSomething is broken; see below\.\n$/);
  });
});

describe("what is broken", () => {
  const transformer = "transformer/diffusion_pytorch_model.safetensors";
  const cases: [what: string, prepare: () => void | Promise<unknown>, env: Record<string, string>, sentence: RegExp][] =
    [
      [
        "a home that is no folder",
        () => writeFileSync(home, ""),
        {},
        /^EASEL_HOME, .*, cannot be used: it is not a folder; set EASEL_HOME to /,
      ],
      [
        "a model that is not here",
        () => {},
        { EASEL_MODEL: "nowhere" },
        /^EASEL_MODEL cannot be used: There is no model "nowhere"; available: easel-sketch\.$/,
      ],
      [
        "a device that is not here",
        () => {},
        { EASEL_DEVICE: process.platform === "win32" ? "coreml" : "dml" },
        /^The device "(dml|coreml)" cannot be used: .*, or choose the device cpu\.$/,
      ],
      [
        "a registered folder that is gone",
        async () => {
          cpSync(tinyModelFolder, join(cwd, "tiny"), { recursive: true });
          await cli(["pull", "./tiny"]);
          rmSync(join(cwd, "tiny"), { recursive: true });
        },
        {},
        /^The folder .*tiny of the model tiny is gone; bring it back, or forget it with: easel rm tiny$/,
      ],
      [
        "a model with a file cut short",
        () => {
          cpSync(tinyModelFolder, join(home, "models", "tiny"), { recursive: true });
          truncateSync(join(home, "models", "tiny", transformer), 100_000);
        },
        {},
        /^tiny cannot be used: diffusion_pytorch_model\.safetensors is not a usable safetensors file: /,
      ],
      [
        "an upscaler that is none",
        () => {
          mkdirSync(join(home, "upscalers"), { recursive: true });
          writeFileSync(join(home, "upscalers", "fine.safetensors"), "not at all");
        },
        {},
        /^The upscaler fine cannot be used: fine\.safetensors is not a usable safetensors file: /,
      ],
    ];
  test.each(cases)("is told in one sentence, with the exit code 1: %s", async (_, prepare, env, sentence) => {
    await prepare();
    const { code, stdout, stderr } = await cli(["doctor"], env);
    expect([code, stdout]).toEqual([1, expect.stringMatching(/\nSomething is broken; see below\.\n$/)]);
    expect(stderr).toMatch(/^easel: [^\n]*\n$/);
    expect(stderr.slice("easel: ".length, -1)).toMatch(sentence);
  });

  test("is in the JSON, and the exit code is the same", async () => {
    const { code, json, stderr } = await doctor({ EASEL_MODEL: "nowhere" });
    expect([code, json.ok, stderr]).toEqual([1, false, ""]);
    expect(json.problems).toEqual([expect.stringMatching(/^EASEL_MODEL cannot be used: /)]);
  });

  test("does not count a download on its way", async () => {
    const pulling = join(home, "models", ".pulling-FLUX.1-dev");
    mkdirSync(pulling, { recursive: true });
    const file = { path: "vae/x.safetensors", sizeBytes: 1000, hash: { algorithm: "sha256", hex: "0" } };
    const manifest = { version: 1, repository: "black-forest-labs/FLUX.1-dev", commit: "c", files: [file] };
    writeFileSync(join(pulling, "easel-pull.json"), JSON.stringify(manifest));
    const { code, json } = await doctor();
    expect([code, modelIn(json, "FLUX.1-dev")]).toEqual([
      0,
      expect.objectContaining({ state: "partial", missing_bytes: 1000 }),
    ]);
  });
});
