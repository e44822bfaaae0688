/**
 * The three examples of Regolo's documentation of image generation, as they are written there: nothing but the address and
 * the key is put in, and the model is one that the server has under the name FLUX.1-dev.
 *
 * The Python ones show their pictures; `xdg-open` is a program of this test that keeps what it is to open.
 */
import { execFile } from "node:child_process";
import {
  chmodSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { delimiter, join } from "node:path";
import { fileURLToPath } from "node:url";
import { promisify } from "node:util";
import { afterAll, beforeAll, beforeEach, expect, test } from "vitest";
import { type EaselServer, pngHeader, startServer, until } from "./support/easel-server.ts";
import { findPython } from "./support/python.ts";

const run = promisify(execFile);
const python = findPython("Regolo's example with requests", ["PIL", "requests"]);
const oldPython = findPython("Regolo's example with its client", ["PIL", "regolo"], {
  requirements: "requirements-old.txt",
  condition: 'hasattr(regolo, "default_image_model")',
});

let server: EaselServer;
let scratch: string;
let shown: string;
beforeAll(async () => {
  scratch = mkdtempSync(join(tmpdir(), "easel-examples-"));
  const model = join(scratch, "FLUX.1-dev");
  symlinkSync(fileURLToPath(new URL("../models/easel-sketch", import.meta.url)), model);
  server = await startServer({}, { folders: [model] });
  shown = join(scratch, "shown");
  const program = join(scratch, "xdg-open");
  writeFileSync(program, `#!/bin/sh\ncp "$1" "${shown}/$$" && mv "${shown}/$$" "${shown}/$$.png"\n`);
  chmodSync(program, 0o755);
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(scratch, { recursive: true });
});
beforeEach(() => {
  rmSync(shown, { recursive: true, force: true });
  mkdirSync(shown);
});

/** The example as it is, but for the address and the key. */
function example(name: string): string {
  const code = readFileSync(new URL(`fixtures/regolo-examples/${name}`, import.meta.url), "utf8");
  return code.replace("https://api.regolo.ai", server.url).replace(/<?YOUR_REGOLO_KEY>?/, server.key);
}

async function runExample(command: string, name: string): Promise<string> {
  const file = join(scratch, `example-${name}`); // not as a package that it imports is called
  writeFileSync(file, example(name));
  const path = [scratch, process.env["PATH"]].join(delimiter);
  const env = { ...process.env, PATH: path, REGOLO_URL: server.url };
  return (await run(command, [file], { cwd: scratch, env, maxBuffer: 64 << 20 })).stdout;
}

const pictures = () => readdirSync(shown).filter((name) => name.endsWith(".png"));

/** The sizes of the pictures that were shown, once there are `count`. */
async function shownSizes(count: number): Promise<string[]> {
  await until(() => pictures().length >= count);
  return pictures().map((name) => {
    const { width, height } = pngHeader(readFileSync(join(shown, name)));
    return `${width}x${height}`;
  });
}

test("curl gets two pictures", async () => {
  const { data } = JSON.parse(await runExample("bash", "curl.sh")) as { data: { b64_json: string; model: string }[] };
  expect(data.map(({ model }) => model)).toEqual(["FLUX.1-dev", "FLUX.1-dev"]);
  for (const { b64_json } of data) {
    expect(pngHeader(Buffer.from(b64_json, "base64"))).toMatchObject({ width: 1024, height: 1024 });
  }
});

test.skipIf(python === undefined)("requests shows two pictures", async () => {
  expect(await runExample(python!, "requests.py")).toBe("");
  expect(await shownSizes(2)).toEqual(["1024x1024", "1024x1024"]);
});

test.skipIf(oldPython === undefined)("Regolo's client shows a picture", async () => {
  await runExample(oldPython!, "regolo.py");
  expect(await shownSizes(1)).toEqual(["1024x1024"]);
});
