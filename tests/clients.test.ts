/**
 * docs/clients.md, run as it stands: the real packages against a real server, with only the address and the key put in.
 *
 * The Python examples need an interpreter that has tests/python/requirements.txt: EASEL_TEST_PYTHON, or `python3`. Without
 * one they are skipped aloud; where CI is set they fail.
 */
import { execFile } from "node:child_process";
import { mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, dirname, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, describe, expect, test } from "vitest";
import { Easel, regolo } from "../packages/client/src/index.ts";
import { docsExamples } from "./support/docs-examples.ts";
import { type EaselServer, pngHeader, startServer } from "./support/easel-server.ts";
import { findPython } from "./support/python.ts";

const run = promisify(execFile);
const examples = docsExamples(new URL("../docs/clients.md", import.meta.url));
const python = findPython("The Python clients", ["openai", "PIL", "regolo", "requests"]);

let server: EaselServer;
let cwd: string;
beforeAll(async () => {
  server = await startServer({ EASEL_MODEL: "easel-sketch" });
  cwd = mkdtempSync(join(tmpdir(), "easel-clients-"));
  symlinkSync(fileURLToPath(new URL("../node_modules", import.meta.url)), join(cwd, "node_modules"));
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(cwd, { recursive: true });
});

/** The example with this test's server in it. */
function example(name: string): string {
  const code = examples.get(name);
  if (code === undefined) throw new Error(`docs/clients.md has no example "${name}"`);
  return code.replaceAll("http://127.0.0.1:8080", server.url).replaceAll("YOUR_KEY", server.key);
}

async function runFile(command: string, file: string, code: string): Promise<string> {
  writeFileSync(join(cwd, file), code);
  const path = [...(python === undefined ? [] : [dirname(python)]), process.env["PATH"]].join(delimiter);
  return (await run(command, [file], { cwd, env: { ...process.env, PATH: path }, maxBuffer: 64 << 20 })).stdout;
}

function pictureSize(...path: string[]): string {
  const { width, height } = pngHeader(readFileSync(join(cwd, ...path)));
  return `${width}x${height}`;
}

describe("docs/clients.md", () => {
  test("curl gets two pictures as base64", async () => {
    const answer = JSON.parse(await runFile("bash", "example.sh", example("curl"))) as { data: { b64_json: string }[] };
    expect(answer.data).toHaveLength(2);
    for (const { b64_json } of answer.data) {
      expect(pngHeader(Buffer.from(b64_json, "base64"))).toMatchObject({ width: 1024, height: 1024, colorType: 2 });
    }
  });

  test("OpenAI's SDK for JavaScript saves a picture", async () => {
    await runFile(process.execPath, "example.mjs", example("openai-node"));
    expect(pictureSize("boat.png")).toBe("256x256");
  });

  describe.skipIf(python === undefined)("in Python", () => {
    test("Regolo's client saves a picture", async () => {
      await runFile(python!, "regolo_example.py", example("regolo"));
      expect(pictureSize("cat.png")).toBe("1024x1024");
    });

    test("Regolo's command line saves a picture", async () => {
      await runFile("bash", "regolo.sh", example("regolo-cli"));
      const [picture] = readdirSync(join(cwd, "pictures"));
      expect(pictureSize("pictures", picture!)).toBe("256x256");
    });

    test("requests saves two pictures", async () => {
      await runFile(python!, "requests_example.py", example("requests"));
      expect([pictureSize("cat-1.png"), pictureSize("cat-2.png")]).toEqual(["1024x1024", "1024x1024"]);
    });

    test("OpenAI's SDK saves a picture", async () => {
      await runFile(python!, "openai_example.py", example("openai-python"));
      expect(pictureSize("boat.png")).toBe("256x256");
    });
  });
});

/** As Open WebUI asks. */
const askLikeOpenWebUi = (body: object) =>
  server.fetch("/v1/images/generations?api-version=2025-04-01-preview", {
    model: "easel-sketch",
    prompt: "a red boat on the sea",
    n: 1,
    response_format: "b64_json",
    ...body,
  });

describe("Open WebUI", () => {
  test.each(["512x512", "auto", undefined])(
    "gets a PNG for its request, with an operator's own fields (%s)",
    async (size) => {
      const response = await askLikeOpenWebUi({ ...(size === undefined ? {} : { size }), steps: 4, seed: 7 });
      expect(response.status).toBe(200);
      const { data } = (await response.json()) as { data: { b64_json: string; url?: string }[] };
      expect(data[0]).not.toHaveProperty("url"); // it would be preferred, and a private host be refused
      const side = size === "512x512" ? 512 : 256;
      expect(pngHeader(Buffer.from(data[0]!.b64_json, "base64"))).toMatchObject({ width: side, height: side });
    },
  );

  test("shows its user what is wrong, since it shows the reason phrase", async () => {
    const response = await askLikeOpenWebUi({ size: "513x512" });
    expect([response.status, response.statusText]).toEqual([400, expect.stringContaining("multiples of 16")]);
  });
});

describe("Easel's own client", () => {
  test("draws, and the same seed draws the same", async () => {
    const easel = new Easel({ apiKey: server.key, baseURL: server.url });
    const draw = async (seed: number) =>
      (await easel.generate({ prompt: "a yellow car", size: "256x256", seed })).images[0]!;
    const [first, again, other] = [await draw(7), await draw(7), await draw(8)];
    expect(first).toMatchObject({ seed: 7, size: "256x256", model: "easel-sketch" });
    expect(again.bytes).toEqual(first.bytes);
    expect(other.bytes).not.toEqual(first.bytes);
    expect((await easel.models()).map(({ id }) => id)).toContain("easel-sketch");
  });

  test("has Regolo's functions under the same names", async () => {
    regolo.defaultKey = server.key;
    regolo.baseURL = server.url;
    regolo.defaultImageModel = "easel-sketch";
    const [bytes] = await regolo.staticImageCreate({ prompt: "A white cat resting in Rome" });
    expect(pngHeader(bytes!)).toMatchObject({ width: 1024, height: 1024 });
  });
});
