/** Weight files from the command line, above all those that lie: one sentence, nothing lost, nothing left. */
import { cpSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { tinyModelFolder } from "./support/easel-server.ts";
import { runCli } from "./support/run-cli.ts";
import { float32, ggufFile, type GgufParts, writeSafetensors } from "./support/weight-files.ts";

let cwd: string;
beforeEach(() => (cwd = mkdtempSync(join(tmpdir(), "easel-bad-weights-"))));
afterEach(() => rmSync(cwd, { recursive: true }));

const cli = (args: readonly string[]) => runCli(args, { cwd });
const draw = ["--size", "32x32", "--steps", "1", "--out", "cat.png"];

/** Every file below the test's folder. */
const files = () => readdirSync(cwd, { recursive: true, encoding: "utf8" }).sort();

const tensor = { name: "img_in.weight", dims: [32], type: 0, offset: 0 };
const gguf = (parts: GgufParts) => () => writeFileSync(join(cwd, "bad.gguf"), ggufFile(parts));

function safetensors(header: object, dataBytes: number, headerBytes?: bigint): () => void {
  return () => {
    const text = Buffer.from(JSON.stringify(header));
    const prefix = Buffer.alloc(8);
    prefix.writeBigUInt64LE(headerBytes ?? BigInt(text.length));
    writeFileSync(join(cwd, "bad.safetensors"), Buffer.concat([prefix, text, Buffer.alloc(dataBytes)]));
  };
}

const cases: [what: string, file: string, make: () => void, sentence: RegExp][] = [
  [
    "an offset beyond the file",
    "bad.gguf",
    gguf({ tensors: [{ ...tensor, offset: 2 ** 40 }], dataBytes: 128 }),
    /lies outside the file/,
  ],
  ["five billion tensors", "bad.gguf", gguf({ tensorCount: 5_000_000_000 }), /claims 5000000000 tensors/],
  ["2^62 key-value pairs", "bad.gguf", gguf({ pairCount: 1n << 62n }), /key-value pairs is 4611686018427387904/],
  [
    "a type that nobody knows",
    "bad.gguf",
    gguf({ tensors: [{ ...tensor, type: 99 }], dataBytes: 128 }),
    /has the type 99; F32, F16, BF16, Q8_0/,
  ],
  [
    "an offset beyond the file",
    "bad.safetensors",
    safetensors({ "img_in.weight": { dtype: "F32", shape: [2 ** 38], data_offsets: [0, 2 ** 40] } }, 8),
    /"img_in\.weight" lies outside the file/,
  ],
  ["a header of 2^62 bytes", "bad.safetensors", safetensors({}, 0, 1n << 62n), /claims 4611686018427387904 bytes/],
  [
    "a shape that cannot be counted",
    "bad.safetensors",
    safetensors({ "img_in.weight": { dtype: "F32", shape: [2 ** 50, 2 ** 50], data_offsets: [0, 8] } }, 8),
    /needs .* bytes but has 8/,
  ],
  [
    "a type that nobody knows",
    "bad.safetensors",
    safetensors({ "img_in.weight": { dtype: "F4_E2M1", shape: [8], data_offsets: [0, 8] } }, 8),
    /has the type F4_E2M1; .* are supported/,
  ],
];

describe("a file with", () => {
  test.each(cases)("%s is refused, drawn with or pulled, and nothing is left: %s", async (_, file, make, sentence) => {
    make();
    const before = files();
    for (const args of [
      ["pull", `./${file}`],
      ["pull", `./${file}`, "--precision", "int8"],
      ["generate", "a cat", "--model", `./${file}`, ...draw],
    ]) {
      const { code, stdout, stderr } = await cli(args);
      expect([code, stdout, stderr]).toEqual([1, "", expect.stringMatching(sentence)]);
      expect(stderr).toMatch(/^easel: bad\.\w+ [^\n]*\n$/);
    }
    expect(files()).toEqual(before);
  });

  test("less in it than the model's description says is refused before anything is converted", async () => {
    cpSync(tinyModelFolder, join(cwd, "tiny"), { recursive: true });
    writeSafetensors(join(cwd, "tiny", "vae", "diffusion_pytorch_model.safetensors"), {
      "decoder.conv_in.weight": float32([1], [1]),
    });
    for (const args of [
      ["pull", "./tiny", "--precision", "int8"],
      ["generate", "a cat", "--model", "./tiny", "--precision", "int8", ...draw],
    ]) {
      const { code, stderr } = await cli(args);
      expect([code, stderr]).toEqual([1, expect.stringMatching(/^(?:Loading tiny\n)?easel: [^\n]*"vae" [^\n]*\n$/)]);
    }
    const cache = join(cwd, "home", "cache");
    expect(existsSync(cache) ? readdirSync(cache) : []).toEqual([]);
  });
});

describe("a LoRA", () => {
  test("for another model is refused by what does not fit, and no picture is saved", async () => {
    const up = float32([64, 1], new Float32Array(64));
    const down = float32([1, 64], new Float32Array(64));
    writeSafetensors(join(cwd, "other.safetensors"), {
      "transformer.transformer_blocks.18.attn.to_q.lora_A.weight": down,
      "transformer.transformer_blocks.18.attn.to_q.lora_B.weight": up,
    });
    const args = ["generate", "a cat", "--model", tinyModelFolder, "--lora", "./other.safetensors", ...draw];
    const { code, stderr } = await cli(args);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(
        /easel: other\.safetensors is a LoRA for another model: it changes "transformer_blocks\.18\.attn\.to_q\.weight", which the model's transformer does not have\.\n$/,
      ),
    ]);
    expect(existsSync(join(cwd, "cat.png"))).toBe(false);
  });

  test("is installed by easel pull, and drawn with by its name", async () => {
    const fixture = join(tinyModelFolder, "..", "formats", "lora-diffusers.safetensors");
    const { code, stdout } = await cli(["pull", fixture]);
    expect([code, stdout]).toEqual([
      0,
      expect.stringMatching(
        /^lora-diffusers is installed \(.* kB\); draw with: easel generate "a cat" --lora lora-diffusers\n$/,
      ),
    ]);
    expect(files()).toEqual(["home", "home/loras", "home/loras/lora-diffusers.safetensors"]);
    const drawn = await cli(["generate", "a cat", "--model", tinyModelFolder, "--lora", "lora-diffusers", ...draw]);
    expect(drawn.code).toBe(0);
    const idle = await cli(["pull", fixture, "--precision", "int8"]);
    expect([idle.code, idle.stderr]).toEqual([2, "easel: --precision says nothing about a LoRA.\n"]);
  });

  test("that is none is refused, and the next picture is drawn without it", async () => {
    mkdirSync(join(cwd, "home", "loras"), { recursive: true });
    writeFileSync(join(cwd, "home", "loras", "none.safetensors"), "a pickle, perhaps");
    const args = ["generate", "a cat", "--model", tinyModelFolder, ...draw];
    const { code, stderr } = await cli([...args, "--lora", "none"]);
    expect([code, stderr]).toEqual([
      1,
      expect.stringMatching(/easel: none\.safetensors is not a usable safetensors file: .*\n$/),
    ]);
    expect((await cli(args)).code).toBe(0);
  });
});
