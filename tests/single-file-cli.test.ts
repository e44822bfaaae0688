/** Single files from the command line: registered, drawn with, listed, forgotten. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { fluxRules } from "../src/weights/key-map.ts";
import { fixturesDir } from "./oracle-fixtures.ts";
import { tinyModelFolder } from "./support/easel-server.ts";
import { startHub } from "./support/hub-server.ts";
import { runCli } from "./support/run-cli.ts";
import { asFloat32, readNetwork, renamed, writeGguf } from "./support/single-files.ts";
import { writeSafetensors } from "./support/weight-files.ts";

const draw = ["--size", "32x32", "--steps", "1", "--seed", "7", "--json"];

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), "easel-single-cli-"));
  const models = join(cwd, "models");
  for (const name of ["unet", "vae", "clip"]) mkdirSync(join(models, name), { recursive: true });
  const transformer = renamed(readNetwork(join(tinyModelFolder, "transformer")), fluxRules);
  writeSafetensors(join(models, "unet", "flux1-dev.safetensors"), asFloat32(transformer));
  writeGguf(join(models, "unet", "flux1-dev-Q8_0.gguf"), transformer, { quantize: true });
  cpSync(join(fixturesDir, "formats", "ae.safetensors"), join(models, "vae", "ae.safetensors"));
  cpSync(join(tinyModelFolder, "text_encoder", "model.safetensors"), join(models, "clip", "clip_l.safetensors"));
  cpSync(join(fixturesDir, "formats", "t5.gguf"), join(models, "clip", "t5-v1_1-xxl-encoder-F32.gguf"));
});
afterEach(() => rmSync(cwd, { recursive: true }));

const cli = (args: readonly string[], env: Record<string, string> = {}) => runCli(args, { cwd, env });
const pull = (args: readonly string[], env: Record<string, string> = {}) =>
  cli(["pull", "models/unet/flux1-dev.safetensors", ...args], env);
const kept = () => readdirSync(join(cwd, "home", "cache", "assembled"));
const installed = () => readdirSync(join(cwd, "home", "models"));

describe("easel pull of a single file", () => {
  test("registers it with what lies around it; it is drawn with, listed and forgotten, and no file is touched", async () => {
    const registered = await pull(["--tokenizers", tinyModelFolder, "--name", "dev"]);
    expect([registered.code, registered.stdout]).toEqual([
      0,
      expect.stringMatching(
        /^dev is registered; its files stay where they are \(.* MB\)\. Draw with: easel generate "a cat" --model dev\n$/,
      ),
    ]);
    expect(registered.stderr).toMatch(
      /^flux1-dev\.safetensors is used with .*ae\.safetensors, .*clip_l.*, .*t5-v1_1.*\n$/,
    );
    const listed = await cli(["models"]);
    expect(listed.stdout).toMatch(/^dev +registered +1024x1024 +\d\.\d MB +fp32$/m);

    const single = await cli(["generate", "a cat", "--model", "dev", ...draw, "--out", "single.png"]);
    expect(JSON.parse(single.stdout)).toMatchObject({ model: "dev", guidance: 3.5 });
    // The same command again, from the same file, changes nothing.
    expect((await pull(["--tokenizers", tinyModelFolder, "--name", "dev"])).code).toBe(0);
    expect(installed()).toEqual(["dev"]);

    const files = join(cwd, "models");
    const removed = await cli(["rm", "dev"]);
    expect(removed.stdout).toMatch(
      /^dev removed; .*flux1-dev\.safetensors, .*ae\.safetensors, .* stay as they are\.\n$/,
    );
    expect([installed(), readdirSync(join(files, "unet"))]).toEqual([
      [],
      ["flux1-dev-Q8_0.gguf", "flux1-dev.safetensors"],
    ]);
  });

  test("fetches the tokenizers alone when nobody has them, and says so offline", async () => {
    // What the shapes of such small networks do not tell.
    for (const name of ["transformer", "vae", "text_encoder", "text_encoder_2"]) {
      mkdirSync(join(cwd, "models", "unet", name));
      cpSync(join(tinyModelFolder, name, "config.json"), join(cwd, "models", "unet", name, "config.json"));
    }
    await using hub = await startHub({ repository: "black-forest-labs/FLUX.1-schnell", folder: tinyModelFolder });
    const env = { HF_ENDPOINT: hub.url };
    const offline = await pull([], { ...env, HF_HUB_OFFLINE: "1" });
    expect([offline.code, offline.stderr]).toEqual([
      1,
      expect.stringContaining("HF_HUB_OFFLINE is set; unset it to fetch them"),
    ]);
    expect([hub.requests, installed()]).toEqual([[], []]);
    const direct = await cli(["generate", "a cat", "--model", "models/unet/flux1-dev.safetensors", ...draw], env);
    expect(direct.stderr).toMatch(
      /needs CLIP's and T5's tokenizers, .* fetch them with: easel pull .*flux1-dev\.safetensors/,
    );

    hub.fault = ({ path }) => (path === "tokenizer_2/tokenizer.json" ? { status: 404 } : undefined);
    expect((await pull([], env)).code).toBe(1);
    expect(installed()).toEqual([]);
    hub.fault = () => undefined;
    const { code, stderr } = await pull([], env);
    expect([code, stderr]).toEqual([0, expect.stringContaining("come from black-forest-labs/FLUX.1-schnell.")]);
    const fetched = hub.requests.filter(({ server, path }) => server === "hub" && !path.startsWith("/api/"));
    expect(fetched.every(({ path }) => path.startsWith("tokenizer"))).toBe(true);
    expect((await cli(["generate", "a cat", "--model", "flux1-dev", ...draw])).code).toBe(0);
  });

  test("says what is gone when a file is gone, and takes it back", async () => {
    await pull(["--tokenizers", tinyModelFolder]);
    rmSync(join(cwd, "models", "vae", "ae.safetensors"));
    expect((await cli(["models"])).stdout).toMatch(/^flux1-dev +unusable/m);
    const { code, stderr } = await cli(["generate", "a cat", "--model", "flux1-dev"]);
    expect([code, stderr]).toEqual([
      1,
      `easel: The file ${join(cwd, "models/vae/ae.safetensors")} of the model flux1-dev is gone; bring it back, or forget it with: easel rm flux1-dev.\n`,
    ]);
    cpSync(join(fixturesDir, "formats", "ae.safetensors"), join(cwd, "models", "vae", "ae.safetensors"));
    expect((await cli(["generate", "a cat", "--model", "flux1-dev", ...draw])).code).toBe(0);
    expect((await cli(["rm", "flux1-dev"])).code).toBe(0);
  });

  test.each([
    [["--name", "../escape"], 2, "--name must be letters, digits"],
    [["--name", "easel-sketch"], 2, "There is another model called easel-sketch; choose another name with --name"],
    [["--revision", "main"], 2, "--revision is for models of the Hub"],
    [["--vae", "nowhere.safetensors"], 1, "There is nothing at"],
    [["--t5", "models/clip/clip_l.safetensors"], 1, "clip_l.safetensors holds no T5 encoder that Easel knows"],
    [["--tokenizers", "models"], 1, "has no tokenizer/ and tokenizer_2/"],
  ])("%j fails with one sentence and leaves nothing", async (args, exitCode, sentence) => {
    const { code, stdout, stderr } = await pull(args);
    expect([code, stdout]).toEqual([exitCode, ""]);
    expect(stderr).toContain(sentence);
    expect(stderr).toMatch(/^easel: [^\n]*\n$/);
    expect(existsSync(join(cwd, "home", "models")) ? installed() : []).toEqual([]);
  });

  test("refuses a file cut short, and flags of files for a folder", async () => {
    writeFileSync(join(cwd, "cut.gguf"), Buffer.from("GGUF\x03\0\0\0"));
    expect((await cli(["pull", "cut.gguf"])).stderr).toMatch(/^easel: cut\.gguf is not a usable GGUF file: [^\n]*\n$/);
    const { code, stderr } = await cli(["pull", tinyModelFolder, "--vae", "x"]);
    expect([code, stderr]).toEqual([2, expect.stringContaining("--vae belongs to a single file")]);
    expect((await cli(["pull", "unet/none.safetensors"])).stderr).toContain("There is nothing at");
  });
});

describe("easel generate with a single file", () => {
  test("draws with what lies around it and the tokenizers of an installed model, and registers nothing", async () => {
    await cli(["pull", tinyModelFolder]);
    const model = "models/unet/flux1-dev-Q8_0.gguf";
    const { code, stdout, stderr } = await cli(["generate", "a cat", "--model", model, ...draw, "--out", "cat.png"]);
    expect([code, JSON.parse(stdout)]).toEqual([0, expect.objectContaining({ model: "flux1-dev-Q8_0" })]);
    expect(stderr).toContain("the tokenizers of flux-dev-tiny");
    expect(installed()).toEqual(["flux-dev-tiny.link"]);
    expect(kept()).toHaveLength(1);
    const again = await cli([
      "generate",
      "a cat",
      "--model",
      model,
      ...draw,
      "--precision",
      "int8",
      "--out",
      "int8.png",
    ]);
    expect([again.code, kept().length]).toEqual([0, 1]);
    expect((await cli(["replay", "cat.png", "--model", model])).stdout).toBe("cat.png  identical\n");
  });
});
