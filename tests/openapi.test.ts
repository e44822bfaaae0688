/** What `GET /openapi.json` promises, kept: thousands of requests drawn from the document, right and wrong ones. */
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { expect, test } from "vitest";
import { startServer } from "./support/easel-server.ts";
import { findPython } from "./support/python.ts";

const python = findPython("The API's document", ["schemathesis"]);
const config = fileURLToPath(new URL("python/schemathesis.toml", import.meta.url));

test.skipIf(python === undefined)(
  "whatever is asked by the API's document is answered as the document says, and never with a 5xx",
  { timeout: 300_000 },
  async () => {
    // Random weights and the smallest pictures: what is tested is all around the drawing.
    await using server = await startServer({
      EASEL_MODEL: "flux-schnell-tiny",
      EASEL_MAX_SIDE: "32",
      EASEL_MAX_UPSCALED_SIDE: "64",
      EASEL_MAX_IMAGES: "2",
    });
    const { code, output } = await schemathesis(server.url, server.key);
    expect(code, output).toBe(0);
    expect(output).toMatch(/Selected: (\d+)\/\1\n\s+Tested: \1\n/);
    console.log(/^.* generated, .*$/m.exec(output)?.[0]?.trim());
  },
);

async function schemathesis(url: string, key: string): Promise<{ code: unknown; output: string }> {
  const options = ["--header", `Authorization: Bearer ${key}`, "--no-color"];
  const args = ["-m", "schemathesis.cli", "--config-file", config, "run", `${url}/openapi.json`, ...options];
  return await new Promise((resolve) => {
    execFile(python!, args, { maxBuffer: 64 << 20 }, (error, stdout, stderr) => {
      resolve({ code: error === null ? 0 : error.code, output: stdout + stderr });
    });
  });
}
