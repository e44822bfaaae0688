import { readFileSync } from "node:fs";
import { expect, test } from "vitest";
import {
  imageEditBody,
  imageGenerationBody,
  imageUpscaleBody,
  imageVariationBody,
} from "../src/server/openai-schemas.ts";

const limits = { maxImages: 10, minSide: 16, maxSide: 2048 };
const text = readFileSync(new URL("../docs/api.md", import.meta.url), "utf8");

/** The parameters that the tables between two headings document. */
function documented(from: string, to: string): string[] {
  const section = text.slice(text.indexOf(`\n## ${from}\n`), text.indexOf(`\n## ${to}\n`));
  const firstCells = section.split("\n").flatMap((line) => /^\| (`.*?) \|/.exec(line)?.[1] ?? []);
  return firstCells.flatMap((cell) => [...cell.matchAll(/`(\w+)`/g)].map(([, name]) => name!));
}

const generation = documented("POST /v1/images/generations", "POST /v1/images/edits");
const edit = documented("POST /v1/images/edits", "POST /v1/images/variations");
const upscale = documented("POST /v1/images/upscale", "Streaming");

test("docs/api.md lists every parameter of a generation, and no other", () => {
  expect(generation.toSorted()).toEqual(Object.keys(imageGenerationBody(limits).shape).toSorted());
});

test("docs/api.md lists what an edit has beyond a generation", () => {
  const beyond = Object.keys(imageEditBody(limits).shape).filter((name) => !generation.includes(name));
  expect(edit.toSorted()).toEqual(beyond.toSorted());
});

test("a variation takes what an edit takes, but for the mask", () => {
  const without = Object.keys(imageEditBody(limits).shape).filter((name) => !/^(mask|input_fidelity)$/.test(name));
  expect(Object.keys(imageVariationBody(limits).shape).toSorted()).toEqual(without.toSorted());
});

test("docs/api.md lists every parameter of an upscaling", () => {
  expect(upscale.toSorted()).toEqual(Object.keys(imageUpscaleBody(limits).shape).toSorted());
});
