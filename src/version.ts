import { readFileSync } from "node:fs";

/** Easel's version, as its package says it. */
export const version = readVersion();

function readVersion(): string {
  const manifest: { version: string } = JSON.parse(readFileSync(new URL("../package.json", import.meta.url), "utf8"));
  return manifest.version;
}
