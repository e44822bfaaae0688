import { spawn, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, statSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { tinyModelFolder, until } from "./support/easel-server.ts";
import { type Fault, type HubServer, startHub } from "./support/hub-server.ts";
import { cliCommand, runCli, startCli } from "./support/run-cli.ts";

const repository = "black-forest-labs/FLUX.1-dev";
const transformer = "transformer/diffusion_pytorch_model.safetensors";
const draw = ["--size", "32x32", "--steps", "1", "--out", "cat.png"];

let cwd: string;
let hub: HubServer;
beforeEach(async () => {
  cwd = mkdtempSync(join(tmpdir(), "easel-pull-"));
  hub = await startHub({ repository, folder: tinyModelFolder });
});
afterEach(async () => {
  await hub[Symbol.asyncDispose]();
  rmSync(cwd, { recursive: true });
});

type Environment = Record<string, string>;
const environment = (env: Environment = {}) => ({ HF_ENDPOINT: hub.url, HF_HUB_DOWNLOAD_TIMEOUT: "30", ...env });
const cli = (args: readonly string[], env?: Environment) => runCli(args, { cwd, env: environment(env) });
const start = (args: readonly string[], env?: Environment) => startCli(args, { cwd, env: environment(env) });
const modelsFolder = (name = "") => join(cwd, "home", "models", name);
const cachedRevision = () => join(cwd, "home", "huggingface", "hub", "models--black-forest-labs--FLUX.1-dev");

async function statusOf(name: string): Promise<string | undefined> {
  const { stdout } = await cli(["models", "--json"]);
  const { models } = JSON.parse(stdout) as { models: { name: string; status: string }[] };
  return models.find((model) => model.name === name)?.status;
}

/** The first request of the transformer's bytes goes wrong. */
function failTransformer(fault: Fault): void {
  const faults = [fault];
  hub.fault = ({ server, path }) => (server === "content" && path === transformer ? faults.shift() : undefined);
}

/** Waits until so much of the transformer has arrived. */
async function arrived(bytes: number): Promise<void> {
  const partial = join(modelsFolder(".pulling-FLUX.1-dev"), `${transformer}.partial`);
  await until(() => statSync(partial, { throwIfNoEntry: false })?.size === bytes);
}

/** A model in the cache as other programs leave it. */
function fillCache(): void {
  mkdirSync(join(cachedRevision(), "refs"), { recursive: true });
  writeFileSync(join(cachedRevision(), "refs", "main"), hub.commit);
  cpSync(tinyModelFolder, join(cachedRevision(), "snapshots", hub.commit), { recursive: true });
}

describe("easel pull", () => {
  test("installs a known model, which is then drawn with; again, it has nothing to do", async () => {
    const first = await cli(["pull", "FLUX.1-dev"]);
    expect([first.code, first.stdout]).toEqual([
      0,
      expect.stringMatching(/^FLUX\.1-dev is installed \(1\.6 MB, \d+ s\); draw with: easel generate .*\n$/),
    ]);
    expect(first.stderr).toMatch(/^Downloading 15 files, 1\.6 MB/);
    expect(first.stderr).toMatch(/100 % {2}1\.6 MB of 1\.6 MB, .*\/s, 0 s left\n$/);
    const again = await cli(["pull", "flux.1-DEV", "--json"]);
    expect(JSON.parse(again.stdout)).toMatchObject({
      name: "FLUX.1-dev",
      outcome: "already_here",
      repository,
      commit: hub.commit,
      folder: modelsFolder("FLUX.1-dev"),
    });
    expect((await cli(["models"])).stdout).toMatch(
      /^FLUX\.1-dev +installed +1024x1024 +1\.6 MB +fp32 +FLUX\.1 \[dev\] Non-Commercial License$/m,
    );
    expect((await cli(["generate", "a cat", "--model", "FLUX.1-dev", ...draw])).code).toBe(0);
    expect(existsSync(join(cwd, "cat.png"))).toBe(true);
  });

  test("gives a repository whose name is taken its owner's name too", async () => {
    await hub[Symbol.asyncDispose]();
    hub = await startHub({ repository: "someone/FLUX.1-dev", folder: tinyModelFolder });
    const { stdout } = await cli(["pull", `${hub.url}/someone/FLUX.1-dev`]);
    expect(stdout).toContain("someone--FLUX.1-dev is installed");
    expect(await statusOf("FLUX.1-dev")).toBe("not installed");
  });

  test("registers a folder where it lies", async () => {
    cpSync(tinyModelFolder, join(cwd, "tiny"), { recursive: true });
    const { code, stdout } = await cli(["pull", "./tiny"]);
    expect([code, stdout]).toEqual([0, `tiny is registered; its files stay in ${join(cwd, "tiny")} (1.6 MB).\n`]);
    expect(readdirSync(modelsFolder())).toEqual(["tiny.link"]);
    expect((await cli(["generate", "a cat", "--model", "tiny", ...draw])).code).toBe(0);

    rmSync(join(cwd, "tiny"), { recursive: true });
    expect(await statusOf("tiny")).toBe("unusable");
    const { stderr } = await cli(["generate", "a cat", "--model", "tiny"]);
    expect(stderr).toBe(
      `easel: The folder ${join(cwd, "tiny")} of the model tiny is gone; bring it back, or forget it with: easel rm tiny\n`,
    );
  });

  test("refuses a folder with a file cut short, and registers nothing", async () => {
    cpSync(tinyModelFolder, join(cwd, "tiny"), { recursive: true });
    writeFileSync(join(cwd, "tiny", transformer), hub.files.get(transformer)!.subarray(0, 100_000));
    const { code, stderr } = await cli(["pull", "./tiny"]);
    expect([code, stderr]).toEqual([1, expect.stringContaining("diffusion_pytorch_model.safetensors")]);
    expect(existsSync(modelsFolder())).toBe(false);
  });

  test("never replaces files that somebody else put there", async () => {
    cpSync(tinyModelFolder, modelsFolder("FLUX.1-dev"), { recursive: true });
    const { code, stderr } = await cli(["pull", "FLUX.1-dev"]);
    expect([code, stderr]).toEqual([2, expect.stringContaining("There is a model called FLUX.1-dev already, in ")]);
    cpSync(tinyModelFolder, join(cwd, "FLUX.1-dev"), { recursive: true });
    const registration = await cli(["pull", "./FLUX.1-dev"]);
    expect([registration.code, registration.stderr]).toEqual([
      2,
      expect.stringContaining("There is another model called FLUX.1-dev; choose another name with --name"),
    ]);
  });

  test("finds a whole model in the Hugging Face cache, with and without the network", async () => {
    fillCache();
    expect(await statusOf("FLUX.1-dev")).toBe("in the HF cache");
    expect((await cli(["generate", "a cat", "--model", "FLUX.1-dev", ...draw])).code).toBe(0);
    expect((await cli(["rm", "FLUX.1-dev"])).stderr).toContain("lies in the Hugging Face cache");
    const { stdout } = await cli(["pull", "FLUX.1-dev"]);
    expect(stdout).toContain("nothing was downloaded");
    expect(hub.requestsFor(transformer)).toEqual([]);
    expect(await statusOf("FLUX.1-dev")).toBe("registered");
    expect((await cli(["rm", "FLUX.1-dev"])).stdout).toContain("stays as it is");
    hub.requests.length = 0;
    expect((await cli(["pull", "FLUX.1-dev"], { HF_HUB_OFFLINE: "1" })).code).toBe(0);
    expect(hub.requests).toEqual([]);
  });

  test("of a newer commit replaces the version that was used from the cache", async () => {
    fillCache();
    await cli(["pull", "FLUX.1-dev"]);
    hub.commit = "b".repeat(40);
    expect((await cli(["pull", "FLUX.1-dev"])).stdout).toContain("is installed");
    expect(readdirSync(modelsFolder())).toEqual(["FLUX.1-dev"]);
    fillCache();
    hub.commit = "c".repeat(40);
    fillCache();
    expect((await cli(["pull", "FLUX.1-dev"])).stdout).toContain("nothing was downloaded");
    expect(readdirSync(modelsFolder())).toEqual(["FLUX.1-dev.link"]);
  });

  test.each([
    [["nonsense"], 1, 'There is no known model "nonsense"; give one of FLUX.1-dev, FLUX.1-schnell, owner/repo'],
    [["../.."], 1, "no model_index.json in"],
    [["./nowhere"], 1, "there is nothing at"],
    [["a/b/c"], 1, "There is no known model"],
    [["easel-sketch"], 2, "easel-sketch is built in"],
    [["FLUX.1-dev", "--precision", "int3"], 2, '--precision must be one of fp32, fp16, int8, int4, not "int3"'],
    [["FLUX.1-dev", "--revision", "v9"], 1, 'black-forest-labs/FLUX.1-dev has no revision "v9"; see http'],
    [["someone/else"], 1, "There is no model someone/else at 127.0.0.1:"],
  ])("%j fails with one sentence", async (args, exitCode, sentence) => {
    const { code, stdout, stderr } = await cli(["pull", ...args]);
    expect([code, stdout]).toEqual([exitCode, ""]);
    expect(stderr).toContain(sentence);
    expect(stderr).toMatch(/^easel: [^\n]*\n$/);
    expect(existsSync(modelsFolder())).toBe(false);
  });

  test("offline, says so instead of asking anyone", async () => {
    const { code, stderr } = await cli(["pull", "FLUX.1-dev"], { HF_HUB_OFFLINE: "1" });
    expect([code, stderr]).toEqual([1, expect.stringContaining("HF_HUB_OFFLINE is set")]);
    expect(hub.requests).toEqual([]);
  });

  test("tells what is wrong when there is no server", async () => {
    const { port } = new URL(hub.url);
    await hub[Symbol.asyncDispose]();
    const { code, stderr } = await cli(["pull", "FLUX.1-dev"], { HF_ENDPOINT: `http://127.0.0.1:${port}` });
    expect(code).toBe(1);
    expect(stderr).toMatch(/easel: 127\.0\.0\.1:\d+: the server refuses connections \(check HF_ENDPOINT\), 3 times/);
  });
});

describe("a gated model", () => {
  beforeEach(() => {
    hub.requiredToken = "hf_right";
  });

  test("without a token, says step by step what to do, and leaves nothing", async () => {
    const { code, stderr } = await cli(["pull", "FLUX.1-dev"]);
    expect([code, stderr]).toEqual([
      1,
      `easel: black-forest-labs/FLUX.1-dev is a gated download: accept its licence at ${hub.url}/${repository}, ` +
        `create a token with read access at ${hub.url}/settings/tokens, export HF_TOKEN=hf_..., ` +
        `and run the same command again.\n`,
    ]);
    expect(readdirSync(modelsFolder())).toEqual([]);
  });

  test("with a token that has no access, says so, and never shows the token", async () => {
    const { code, stdout, stderr } = await cli(["pull", "FLUX.1-dev"], { HF_TOKEN: "hf_other", EASEL_DEBUG: "1" });
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toContain("The account of the token in HF_TOKEN has no access yet: accept the licence at");
    expect(stderr).not.toContain("hf_other");
  });

  test("with a token that does not exist, asks for another", async () => {
    hub.fault = () => ({ status: 401 });
    const { code, stderr } = await cli(["pull", "FLUX.1-dev"], { HF_TOKEN: "hf_gone" });
    expect([code, stderr]).toEqual([
      1,
      expect.stringContaining("does not accept the token of HF_TOKEN; create one at"),
    ]);
  });

  test("is pulled with the token of the environment or of the token file", async () => {
    expect((await cli(["pull", "FLUX.1-dev"], { HF_TOKEN: "hf_right" })).code).toBe(0);
    await cli(["rm", "FLUX.1-dev"]);
    mkdirSync(join(cwd, "home", "huggingface"), { recursive: true });
    writeFileSync(join(cwd, "home", "huggingface", "token"), "hf_right\n");
    expect((await cli(["pull", "FLUX.1-dev"])).code).toBe(0);
    await cli(["rm", "FLUX.1-dev"]);
    writeFileSync(join(cwd, "token"), "hf_wrong");
    const { stderr } = await cli(["pull", "FLUX.1-dev"], { HF_TOKEN_PATH: "token" });
    expect(stderr).toContain("The account of the token in token has no access yet");
  });

  test("a token that cannot be one is refused without being shown", async () => {
    const { code, stderr } = await cli(["pull", "FLUX.1-dev"], { HF_TOKEN: "hf secret" });
    expect([code, stderr]).toEqual([2, "easel: HF_TOKEN must be printable ASCII without spaces.\n"]);
  });
});

describe("a pull that is stopped", () => {
  test("by Ctrl-C keeps what has arrived, says so, and goes on from there", async () => {
    failTransformer({ stallAfter: 300_000 });
    const run = start(["pull", "FLUX.1-dev"]);
    await arrived(300_000);
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(130);
    expect(run.output.stderr).toMatch(
      /easel: interrupted; .* of 1\.6 MB are kept; go on with: easel pull FLUX\.1-dev\n$/,
    );
    expect(await statusOf("FLUX.1-dev")).toMatch(/^partial \d\d %$/);
    const { stderr } = await cli(["generate", "a cat", "--model", "FLUX.1-dev"]);
    expect(stderr).toMatch(/^easel: FLUX\.1-dev is downloaded to \d\d %; go on with: easel pull FLUX\.1-dev\n$/);
    expect((await cli(["pull", "FLUX.1-dev"])).code).toBe(0);
    expect(hub.requestsFor(transformer).at(-1)?.range).toBe("bytes=300000-");
  });

  test("by kill -9 leaves nothing that is taken for whole, and goes on from there", async () => {
    failTransformer({ stallAfter: 300_000 });
    const run = start(["pull", "FLUX.1-dev"]);
    await arrived(300_000);
    run.child.kill("SIGKILL");
    await run.ended;
    expect(existsSync(modelsFolder("FLUX.1-dev"))).toBe(false);
    hub.requests.length = 0;
    expect((await cli(["pull", "FLUX.1-dev"])).code).toBe(0);
    expect(hub.requestsFor(transformer).at(-1)?.range).toBe("bytes=300000-");
    expect(readdirSync(modelsFolder())).toEqual(["FLUX.1-dev"]);
  });

  test("of two at once, the second waits, and no file is fetched twice", async () => {
    failTransformer({ stallAfter: 300_000 });
    const first = start(["pull", "FLUX.1-dev"], { HF_HUB_DOWNLOAD_TIMEOUT: "8" });
    await arrived(300_000);
    const second = start(["pull", "FLUX.1-dev"]);
    await until(() => second.output.stderr.includes("Another easel is pulling FLUX.1-dev; waiting for it."));
    const removal = await cli(["rm", "FLUX.1-dev"]);
    expect([removal.code, removal.stderr]).toEqual([1, expect.stringContaining("is being pulled by another easel")]);
    expect(await Promise.all([first.ended, second.ended])).toEqual([0, 0]);
    expect(second.output.stdout).toContain("already installed");
    expect(hub.requestsFor("vae/diffusion_pytorch_model.safetensors").length).toBe(2); // the Hub, then its content server
    expect(hub.requestsFor(transformer).map(({ range }) => range)).toEqual([
      undefined,
      undefined,
      "bytes=300000-",
      "bytes=300000-",
    ]);
  });

  test("the one that waits takes over when the other is killed", async () => {
    failTransformer({ stallAfter: 300_000 });
    const first = start(["pull", "FLUX.1-dev"]);
    await arrived(300_000);
    const second = start(["pull", "FLUX.1-dev"]);
    await until(() => second.output.stderr.includes("waiting for it"));
    first.child.kill("SIGKILL");
    expect(await second.ended).toBe(0);
    expect(second.output.stdout).toContain("is installed");
  });
});

const canMount = spawnSync("unshare", ["-rm", "true"]).status === 0;

/** `easel pull` with its home on a disk of its own; gives the process and where this side sees the disk. */
function pullOnto(disk: string) {
  mkdirSync(join(cwd, "home"));
  const { command, env } = cliCommand(["pull", "FLUX.1-dev"], { cwd, env: environment() });
  const script = `mount -t tmpfs -o ${disk} tmpfs home && exec "$@"`;
  const child = spawn("unshare", ["-rm", "sh", "-c", script, "sh", ...command], { cwd, env });
  let stderr = "";
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (stderr += chunk));
  const ended = new Promise<[number | null, string]>((resolve) => child.on("close", (code) => resolve([code, stderr])));
  return { ended, home: `/proc/${child.pid}/root${join(cwd, "home")}` };
}

describe("a disk", () => {
  test.skipIf(!canMount)("that is too small is noticed before anything is fetched", async () => {
    const [code, stderr] = await pullOnto("size=10m").ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /^easel: FLUX\.1-dev needs 68\.7 MB on the disk of .*models, where \d+\.\d MB are free; free some space, or set EASEL_HOME to a folder on a larger disk\.\n$/,
    );
    expect(hub.requestsFor(transformer)).toEqual([]);
  });

  test.skipIf(!canMount)("that fills up on the way is one sentence, and what has arrived is kept", async () => {
    const run = pullOnto("size=80m");
    let kept: string[] = [];
    hub.fault = ({ server, path }) => {
      if (server === "content" && path === transformer) {
        kept = readdirSync(join(run.home, "models"));
        try {
          writeFileSync(join(run.home, "filler"), Buffer.alloc(100 * 1024 * 1024));
        } catch {} // it is full now, as intended
      }
      return undefined;
    };
    const [code, stderr] = await run.ended;
    expect(code).toBe(1);
    expect(stderr).toMatch(
      /easel: .* could not be written: the disk is full; free some space and run the same command/,
    );
    expect(kept).toContain(".pulling-FLUX.1-dev");
  });

  test.skipIf(!canMount)("without permission to write is one sentence", async () => {
    const [code, stderr] = await pullOnto("ro").ended;
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/^easel: .*: permission is missing; make the folder writable/),
    ]);
  });
});

describe("easel rm", () => {
  test("removes an installed model and says what that freed", async () => {
    await cli(["pull", "FLUX.1-dev"]);
    const { code, stdout } = await cli(["rm", "FLUX.1-dev"]);
    expect([code, stdout]).toEqual([0, "FLUX.1-dev removed; 1.6 MB freed.\n"]);
    expect(readdirSync(modelsFolder())).toEqual([]);
    expect(await statusOf("FLUX.1-dev")).toBe("not installed");
  });

  test("only forgets a registered folder", async () => {
    const folder = join(cwd, "tiny");
    cpSync(tinyModelFolder, folder, { recursive: true });
    await cli(["pull", "./tiny"]);
    expect((await cli(["rm", "tiny"])).stdout).toBe(`tiny removed; ${folder} stays as it is.\n`);
    expect(existsSync(join(folder, transformer))).toBe(true);
    expect(await statusOf("tiny")).toBe(undefined);
  });

  test("removes what an unfinished download has left", async () => {
    failTransformer({ stallAfter: 300_000 });
    const run = start(["pull", "FLUX.1-dev"]);
    await arrived(300_000);
    run.child.kill("SIGKILL");
    await run.ended;
    expect((await cli(["rm", "FLUX.1-dev"])).stdout).toMatch(/^FLUX\.1-dev removed; .* freed\.\n$/);
    expect(readdirSync(modelsFolder())).toEqual([]);
  });

  test.each([
    ["easel-sketch", 2, "easel-sketch is built in and cannot be removed"],
    ["FLUX.1-dev", 1, 'There is no installed model "FLUX.1-dev"'],
    ["..", 1, 'There is no installed model ".."'],
    ["../models", 1, "There is no installed model"],
    ["", 1, "There is no installed model"],
  ])("%j is refused in one sentence", async (name, exitCode, sentence) => {
    const { code, stderr } = await cli(["rm", name]);
    expect([code, stderr]).toEqual([exitCode, expect.stringContaining(sentence)]);
    expect(stderr).toMatch(/^easel: [^\n]*\n$/);
  });
});
