import { mkdtempSync, readdirSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, expect, test } from "vitest";
import { webhookSecret } from "../src/store/keys.ts";
import { runCli } from "./support/run-cli.ts";

let cwd: string;
beforeEach(() => {
  cwd = mkdtempSync(join(tmpdir(), "easel-cli-keys-"));
});
afterEach(() => rmSync(cwd, { recursive: true }));

const cli = (...args: string[]) => runCli(args, { cwd });

test("a key is made with its rights, shown once, listed without itself, and revoked", async () => {
  const rights = ["--models", "a,b", "--expires", "30d", "--requests-per-minute", "60", "--budget", "0.5/day"];
  const created = await cli("keys", "create", "alice", ...rights, "--priority", "high", "--json");
  expect(created.code).toBe(0);
  const { id, key, webhook_secret: secret } = JSON.parse(created.stdout) as Record<string, string>;
  expect(key).toMatch(/^sk-easel-[\w-]{43}$/);
  expect(secret).toBe(webhookSecret(key ?? ""));

  const listed = await cli("keys", "list", "--json");
  expect(JSON.parse(listed.stdout)).toMatchObject({
    keys: [
      {
        id,
        name: "alice",
        status: "valid",
        scopes: ["images", "models", "usage"],
        models: ["a", "b"],
        requests_per_minute: 60,
        concurrent_pictures: null,
        budget: { megapixel_steps: 0.5, period: "day" },
        priority: "high",
      },
    ],
  });
  for (const file of readdirSync(join(cwd, "home"))) {
    expect(readFileSync(join(cwd, "home", file)).includes(key ?? "")).toBe(false);
  }

  expect(await cli("keys", "revoke", id ?? "")).toMatchObject({ code: 0, stdout: "" });
  expect((await cli("keys", "list")).stdout).toMatch(
    /^key_\S+ {2}alice {2}revoked {2}images\+models\+usage, only a\+b, /,
  );
  expect(await cli("keys", "revoke", "alice")).toMatchObject({
    code: 1,
    stderr: 'easel: There is no valid key "alice"; easel keys list shows them.\n',
  });
  expect(await cli("usage")).toMatchObject({
    code: 0,
    stdout: "day,key_id,key_name,model,requests,pictures,megapixel_steps\r\n",
  });
});

test.each([
  [["--budget", "5/year"], "--budget must be megapixel-steps a day or month, such as 500/day, not 5/year."],
  [["--scopes", "images,all"], '--scopes must be a list of images, models, usage, metrics, admin, not "all".'],
  [["--expires", "2001-01-01"], "--expires must be a day to come, such as 2030-01-31 or 30d, not 2001-01-01."],
  [["--concurrent-pictures", "0"], "--concurrent-pictures must be a whole number from 1 to 1000000, not 0."],
])("keys create with %j is refused in a sentence", async (flags, message) => {
  expect(await cli("keys", "create", "bob", ...flags)).toMatchObject({ code: 2, stderr: `easel: ${message}\n` });
});
