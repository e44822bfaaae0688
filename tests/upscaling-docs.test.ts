/** The first example of docs/upscaling.md, run as it stands. */
import { execFile } from "node:child_process";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { promisify } from "node:util";
import sharp from "sharp";
import { afterAll, beforeAll, expect, test } from "vitest";
import { docsExamples } from "./support/docs-examples.ts";
import { type EaselServer, pngHeader, startServer } from "./support/easel-server.ts";
import { cliCommand } from "./support/run-cli.ts";

let server: EaselServer;
let cwd: string;
beforeAll(async () => {
  server = await startServer();
  cwd = mkdtempSync(join(tmpdir(), "easel-upscaling-"));
});
afterAll(async () => {
  await server[Symbol.asyncDispose]();
  rmSync(cwd, { recursive: true });
});

test("docs/upscaling.md enlarges a file, a drawing, and a picture that a server was sent", async () => {
  const [enlarge, draw, send] = docsExamples(new URL("../docs/upscaling.md", import.meta.url))
    .get("enlarge")!
    .split("\n");
  const red = { width: 24, height: 16, channels: 3, background: "red" } as const;
  await sharp({ create: red }).png().toFile(join(cwd, "cat.png"));

  await run(enlarge!);
  expect(sizeOf(readFileSync(join(cwd, "large-cat.png")))).toBe("96x64");
  const told = await run(draw!);
  expect(told).toMatch(/^\S+\.png  512x512 /);
  const { data } = JSON.parse(await run(send!)) as { data: [{ b64_json: string }] };
  expect(sizeOf(Buffer.from(data[0].b64_json, "base64"))).toBe("96x64");
});

function sizeOf(png: Buffer): string {
  const { width, height } = pngHeader(png);
  return `${width}x${height}`;
}

/** A line of the example in a shell that knows `easel`, a server and its key; what it prints. */
async function run(line: string): Promise<string> {
  const { command, env } = cliCommand([], { cwd });
  const [node, main] = command;
  const file = join(cwd, "example.sh");
  writeFileSync(file, `easel() { "${node}" "${main}" "$@"; }\n${line}\n`);
  const options = { cwd, env: { ...env, EASEL: server.url, KEY: server.key } };
  return (await promisify(execFile)("bash", ["-e", file], options)).stdout;
}
