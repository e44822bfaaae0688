import { exec, spawnSync } from "node:child_process";
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { pngHeader, tinyModelFolder, until } from "./support/easel-server.ts";
import { childrenOf, cliCommand, type CliOptions, isAlive, runCli, startCli } from "./support/run-cli.ts";

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), "easel-cli-"));
});
afterEach(() => rmSync(cwd, { recursive: true }));

const cli = (args: readonly string[], options: Partial<CliOptions> = {}) => runCli(args, { cwd, ...options });
const tiny = ["--model", tinyModelFolder, "--size", "32x32", "--steps", "2"];
/** Takes about a minute if nothing stops it. */
const long = ["--model", tinyModelFolder, "--size", "256x256", "--steps", "150", "--n", "10"];
const pictures = (folder = cwd) => readdirSync(folder).filter((name) => name !== "home");
const listening = /^listening on (http:\/\/127\.0\.0\.1:\d+)$/m;
const serve = (env: Record<string, string> = {}) =>
  startCli(["serve", "--port", "0", "--model", tinyModelFolder], { cwd, env });

describe("easel generate", () => {
  test("saves the picture, tells its file, size and seed on stdout and the progress on stderr", async () => {
    const { code, stdout, stderr } = await cli(["generate", "a cat", ...tiny, "--seed", "7", "--out", "cat.png"]);
    expect([code, stdout]).toEqual([0, "cat.png  32x32  seed 7\n"]);
    expect(stderr).toContain("Drawing: step 2 of 2");
    expect(pngHeader(readFileSync(join(cwd, "cat.png")))).toMatchObject({ width: 32, height: 32 });
    expect(pictures()).toEqual(["cat.png"]);
  });

  test("draws without words when the prompt is empty, and says so", async () => {
    const { code, stderr } = await cli(["generate", "", ...tiny, "--out", "any.png"]);
    expect(code).toBe(0);
    expect(stderr).toContain("The prompt is empty");
    expect(pictures()).toEqual(["any.png"]);
  });

  test("names pictures after their seeds, and never replaces one that it named itself", async () => {
    await cli(["generate", "a cat", ...tiny, "--seed", "7"]);
    const { stdout } = await cli(["generate", "a dog", ...tiny, "--seed", "7"]);
    expect(stdout).toBe("easel-7-2.png  32x32  seed 7\n");
    expect(pictures()).toEqual(["easel-7-2.png", "easel-7.png"]);
  });

  test("numbers several pictures when --out is a file, and makes the folder when it is one", async () => {
    await cli(["generate", "a cat", ...tiny, "--n", "2", "--out", "cat.png"]);
    await cli(["generate", "a cat", ...tiny, "--n", "2", "--seed", "7", "--out", "cats/"]);
    expect(pictures()).toEqual(["cat-1.png", "cat-2.png", "cats"]);
    expect(pictures(join(cwd, "cats"))).toEqual(["easel-7.png", "easel-8.png"]);
  });

  test("--json prints one object", async () => {
    const { stdout } = await cli(["generate", "a cat", ...tiny, "--seed", "7", "--out", "cat.png", "--json"]);
    expect(JSON.parse(stdout)).toEqual({
      images: [{ file: "cat.png", seed: 7, size: "32x32" }],
      model: "flux-dev-tiny",
      steps: 2,
      guidance: 3.5,
      device: "cpu",
      notices: expect.any(Array),
      seconds: expect.any(Number),
    });
  });

  test.each([
    [["generate"], "missing required argument 'prompt'"],
    [["generate", "a", "white", "cat"], "too many arguments"],
    [["generate", "a cat", "--bogus"], "unknown option '--bogus'"],
    [["generate", "x".repeat(100_000)], "at most 32000 characters"],
    [["generate", "a cat", "--size", "0x0"], "--size must have sides from 16 to 2048"],
    [["generate", "a cat", "--size", "257x300"], "multiples of 16, such as 256x304"],
    [["generate", "a cat", "--size", "1e9x1e9"], "--size must be"],
    [["generate", "a cat", "--size", "abc"], "--size must be"],
    [["generate", "a cat", "--n", "0"], "--n must be a whole number from 1 to 10"],
    [["generate", "a cat", "--n", "11"], "--n must be a whole number from 1 to 10"],
    [["generate", "a cat", "--n", "1.5"], "--n must be a whole number from 1 to 10"],
    [["generate", "a cat", "--seed", "-1"], "--seed must be a whole number"],
    [["generate", "a cat", "--seed", "9007199254740992"], "--seed must be a whole number"],
    [["generate", "a cat", "--seed", "text"], '--seed must be a whole number from 0 to 9007199254740991, not "text"'],
    [["generate", "a cat", "--precision", "int3"], "--precision must be"],
    [["generate", "a cat", "--device", "tpu"], "--device must be"],
    [["generate", "a cat", "--threads", "many"], "--threads must be"],
    [["generate", "a cat", "--out", "cat.gif"], "--out must be a folder or a name that ends in .png"],
    [["generate", "a cat", "--out", "nowhere/cat.png"], "there is no folder nowhere"],
    [["generate", "a cat", "--out", "/dev/null"], "--out"],
    [["bogus"], "unknown command 'bogus'"],
    [["serve", "--port", "99999"], "--port must be"],
  ])("case %#: wrong usage exits with 2 and one sentence", async (args, sentence) => {
    const { code, stdout, stderr } = await cli(args);
    expect([code, stdout]).toEqual([2, ""]);
    expect(stderr).toContain(sentence);
    expect(stderr).toMatch(/^easel: [^\n]*\n(\(easel --help shows how\)\n)?$/);
    expect(pictures()).toEqual([]);
  });

  test.each([
    ["FLUX.1-dev", "FLUX.1-dev is not installed; install it with: easel pull FLUX.1-dev"],
    ["nonesuch", 'There is no model "nonesuch"; available:'],
    ["./nonesuch", "There is no model folder or file ./nonesuch"],
    [".", "has no model_index.json"],
  ])("--model %s fails with one sentence on what to do", async (model, sentence) => {
    const { code, stdout, stderr } = await cli(["generate", "a cat", "--model", model]);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toContain(sentence);
    expect(stderr).toMatch(/^easel: [^\n]*\n$/);
  });

  test.each([
    ["without its vae", (folder: string) => rmSync(join(folder, "vae"), { recursive: true })],
    ["without its tokenizer", (folder: string) => rmSync(join(folder, "tokenizer"), { recursive: true })],
    [
      "with a weight file whose header would be 2^63 bytes long",
      (folder: string) =>
        writeFileSync(
          join(folder, "transformer", "diffusion_pytorch_model.safetensors"),
          Buffer.from("0000000000000080", "hex"),
        ),
    ],
    ["with a damaged config", (folder: string) => writeFileSync(join(folder, "transformer", "config.json"), "{")],
    ["with a damaged easel.json", (folder: string) => writeFileSync(join(folder, "easel.json"), "[]")],
  ])("a model folder %s fails with one sentence", async (_, damage) => {
    const folder = join(cwd, "home", "model");
    cpSync(tinyModelFolder, folder, { recursive: true });
    damage(folder);
    const { code, stdout, stderr } = await cli(["generate", "a cat", "--model", folder, "--size", "32x32"]);
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^(Loading model\n)?easel: [^\n]{20,}\n$/);
    expect(stderr).not.toMatch(/unexpected|\bat .*:\d+/);
    expect(pictures()).toEqual([]);
  });

  test("EASEL_DEBUG=1 adds the stack", async () => {
    const { stderr } = await cli(["generate", "a cat", "--n", "0"], { env: { EASEL_DEBUG: "1" } });
    expect(stderr).toMatch(/--n must be a whole number.*\n +at /);
  });

  test("Ctrl-C in mid-picture exits with 130 at once, and leaves no file and no process", async () => {
    const run = startCli(["generate", "a cat", ...long, "--out", "cat.png"], { cwd });
    await until(() => run.output.stderr.includes("Image 1"));
    const engines = await childrenOf(run.child.pid ?? 0);
    expect(engines).toHaveLength(1);
    const interruptedMs = performance.now();
    run.child.kill("SIGINT");
    expect(await run.ended).toBe(130);
    expect(performance.now() - interruptedMs).toBeLessThan(2000);
    expect(run.output.stderr).toContain("easel: interrupted; nothing was saved.\n");
    expect([run.output.stdout, pictures()]).toEqual(["", []]);
    await until(() => !engines.some(isAlive));
  });

  test("the engine process leaves by itself when its parent is killed", async () => {
    const run = startCli(["generate", "a cat", ...long], { cwd });
    await until(() => run.output.stderr.includes("Image 1"));
    const engines = await childrenOf(run.child.pid ?? 0);
    run.child.kill("SIGKILL");
    expect(await run.ended).toBe("SIGKILL");
    await until(() => !engines.some(isAlive));
  });

  const canMount = spawnSync("unshare", ["-rm", "true"]).status === 0;
  test.skipIf(!canMount)("a full disk fails with one sentence and leaves nothing", async () => {
    const disk = join(cwd, "disk");
    mkdirSync(disk);
    const script = `mount -t tmpfs -o size=4k tmpfs "$1" && shift &&
      "$@"; code=$?; ls -A disk; exit $code`;
    const args = ["generate", "a cat", ...tiny, "--n", "2", "--out", "disk/cat.png"];
    const { command, env } = cliCommand(args, { cwd });
    const { status, stdout, stderr } = spawnSync("unshare", ["-rm", "sh", "-c", script, "sh", disk, ...command], {
      cwd,
      env,
      encoding: "utf8",
    });
    expect([status, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/easel: disk\/cat-\d\.png could not be written: the disk is full; free some space\.\n$/);
  });
});

describe("easel models", () => {
  test("lists what is here and what can be installed", async () => {
    cpSync(tinyModelFolder, join(cwd, "home", "models", "tiny"), { recursive: true });
    const { code, stdout, stderr } = await cli(["models"]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^tiny +installed +1024x1024 +1\.6 MB +fp32$/m);
    expect(stdout).toMatch(/^FLUX\.1-dev +not installed/m);
    expect(stderr).toContain("easel pull FLUX.1-dev");
    const { models } = JSON.parse((await cli(["models", "--json"])).stdout) as { models: { name: string }[] };
    expect(models).toContainEqual({
      name: "tiny",
      status: "installed",
      size: "1024x1024",
      bytes: expect.any(Number),
      precision: "fp32",
      license: null,
    });
  });
});

describe("easel serve", () => {
  test("the first start prints a key in a command to paste, once; SIGTERM ends it in order", async () => {
    const first = serve();
    await until(() => listening.test(first.output.stdout));
    const url = listening.exec(first.output.stdout)?.[1] ?? "";
    const key = /Bearer (sk-easel-[\w-]{43})"/.exec(first.output.stdout)?.[1];
    expect(first.output.stdout).toContain(`curl ${url}/v1/images/generations`);
    expect((await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } })).status).toBe(200);
    const engines = await childrenOf(first.child.pid ?? 0);
    first.child.kill("SIGTERM");
    expect(await first.ended).toBe(0);
    expect(engines.some(isAlive)).toBe(false);
    expect(first.output.stderr).not.toContain(key);

    const second = serve({ EASEL_API_KEY: "another" });
    await until(() => listening.test(second.output.stdout));
    expect(second.output.stdout).toMatch(/^listening on [^\n]*\n$/);
    expect(second.output.stderr).toContain("EASEL_API_KEY is ignored");
    second.child.kill("SIGINT");
    expect(await second.ended).toBe(0);
  });

  test("the printed command works as it is", async () => {
    const run = serve();
    await until(() => listening.test(run.output.stdout));
    const command = run.output.stdout.slice(run.output.stdout.indexOf("curl"), run.output.stdout.indexOf("listening"));
    const curl = command.trim().replace('Rome"', 'Rome", "size": "32x32", "steps": 1');
    const { stdout } = await promisify(exec)(`${curl} -sS`);
    expect(JSON.parse(stdout)).toMatchObject({ data: [{ size: "32x32" }] });
    run.child.kill("SIGTERM");
    await run.ended;
  });

  test("EASEL_API_KEY becomes the key at the first start, and is not printed", async () => {
    const run = serve({ EASEL_API_KEY: "my-own-key" });
    await until(() => listening.test(run.output.stdout));
    const url = listening.exec(run.output.stdout)?.[1] ?? "";
    expect((await fetch(`${url}/v1/models`, { headers: { authorization: "Bearer my-own-key" } })).status).toBe(200);
    expect(run.output.stdout + run.output.stderr).not.toContain("my-own-key");
    run.child.kill("SIGTERM");
    expect(await run.ended).toBe(0);
  });

  test("a port in use is one sentence, and no key is lost to it", async () => {
    const taken = createServer().listen(0, "127.0.0.1");
    await until(() => taken.listening);
    const address = taken.address();
    const port = typeof address === "object" ? String(address?.port) : "";
    const { code, stdout, stderr } = await cli(["serve", "--model", tinyModelFolder, "--port", port]);
    taken.close();
    expect([code, stdout]).toEqual([1, ""]);
    expect(stderr).toMatch(/^easel: .*the port is in use; stop the other program or choose another --port\.\n$/);
    const next = serve();
    await until(() => listening.test(next.output.stdout));
    expect(next.output.stdout).toContain("sk-easel-");
    next.child.kill("SIGTERM");
    await next.ended;
  });

  test("a damaged database is one sentence", async () => {
    mkdirSync(join(cwd, "home"));
    writeFileSync(join(cwd, "home", "easel.db"), "no database ".repeat(1000));
    const { code, stderr } = await cli(["serve", "--model", tinyModelFolder, "--port", "0"]);
    expect(code).toBe(1);
    expect(stderr).toMatch(/^easel: The database .*easel\.db is damaged; [^\n]*\n$/);
  });

  test("a stop in mid-picture is answered, within the grace, and the process ends", async () => {
    const run = serve({ EASEL_API_KEY: "k" });
    await until(() => listening.test(run.output.stdout));
    const url = listening.exec(run.output.stdout)?.[1] ?? "";
    const body = JSON.stringify({ prompt: "a cat", size: "256x256", steps: 30 });
    const headers = { authorization: "Bearer k", "content-type": "application/json" };
    const work = fetch(`${url}/v1/images/generations`, { method: "POST", headers, body });
    await new Promise((resolve) => setTimeout(resolve, 500));
    run.child.kill("SIGTERM");
    expect((await work).status).toBe(200);
    expect(await run.ended).toBe(0);
  });
});

test("--help teaches with examples, and --version tells the version", async () => {
  const help = await cli(["--help"]);
  expect(help.code).toBe(0);
  expect(help.stdout).toContain('easel generate "A white cat resting in Rome" --out cat.png');
  expect((await cli(["generate", "--help"])).stdout).toContain("Examples:");
  expect((await cli(["--version"])).stdout).toMatch(/^\d+\.\d+\.\d+\n$/);
  expect(existsSync(join(cwd, "home"))).toBe(false);
});
