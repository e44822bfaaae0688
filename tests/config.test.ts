import { readFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { expect, test } from "vitest";
import { configSchema, loadConfig } from "../src/config.ts";
import { errorCodes } from "../src/errors.ts";
import { statusOf } from "../src/server/error-response.ts";

const docs = (name: string) => readFileSync(new URL(`../docs/${name}`, import.meta.url), "utf8");
/** The rows of a document's table as its cells, without backquotes. */
const rows = (text: string) =>
  text
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) =>
      line
        .split("|")
        .slice(1, -1)
        .map((cell) => cell.trim().replaceAll("`", "")),
    );

/** Defaults that depend on the machine, as the document writes them. */
const placeDefaults: Record<string, string> = {
  home: "~/.local/share/easel",
  hubHome: "~/.cache/huggingface",
  hubCache: "$HF_HOME/hub",
  hubTokenPath: "$HF_HOME/token",
};

test("docs/configuration.md lists every setting with its variable, default and description", () => {
  const documented = rows(docs("configuration.md")).map(([variable, fallback, description]) => ({
    variable,
    fallback,
    description,
  }));
  const actual = Object.entries(configSchema.shape).map(([name, schema]) => {
    const fallback = schema.safeParse(undefined).data;
    return {
      variable: schema.meta()?.["env"],
      fallback: placeDefaults[name] ?? (fallback === undefined ? "" : String(fallback)),
      description: String(schema.meta()?.description).replaceAll("`", ""),
    };
  });
  expect(documented).toEqual(actual);
});

test("docs/errors.md lists every code with its status and meaning", () => {
  const documented = rows(docs("errors.md")).map(([code, status, meaning]) => ({
    code,
    status: Number(status),
    meaning,
  }));
  const actual = Object.entries(errorCodes).map(([code, meaning]) => ({
    code,
    status: statusOf[code as keyof typeof errorCodes],
    meaning,
  }));
  expect(documented).toEqual(actual);
});

test("flags win over the environment, the environment over defaults, and an empty variable is none", () => {
  const env = { EASEL_PORT: "9000", EASEL_HOST: "0.0.0.0", EASEL_QUEUE_BOUND: "" };
  expect(loadConfig(env, { port: "9001", host: undefined })).toMatchObject({
    port: 9001,
    host: "0.0.0.0",
    queueBound: 64,
  });
});

test("data lives in EASEL_HOME, else in the XDG data folder", () => {
  expect(loadConfig({ EASEL_HOME: "data" }).home).toBe(resolve("data"));
  expect(loadConfig({ XDG_DATA_HOME: "/xdg" }).home).toBe(join("/xdg", "easel"));
});

test.each([
  [{ EASEL_PORT: "http" }, 'EASEL_PORT must be a whole number from 0 to 65535, not "http".'],
  [{ EASEL_DEVICE: "tpu" }, 'EASEL_DEVICE must be auto, cpu, webgpu, cuda, coreml, dml, not "tpu".'],
  [{ EASEL_API_KEY: "with space" }, "EASEL_API_KEY must be printable ASCII without spaces."],
  [{ EASEL_MIN_SIDE: "512", EASEL_MAX_SIDE: "256" }, "EASEL_MIN_SIDE must not be larger than EASEL_MAX_SIDE."],
])("%o is refused by name, and a key is never repeated", (env, message) => {
  expect(() => loadConfig(env)).toThrow(expect.objectContaining({ code: "invalid_request", message }));
});
