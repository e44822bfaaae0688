import { readFileSync } from "node:fs";
import { join } from "node:path";
import { expect, test } from "vitest";

const root = join(import.meta.dirname, "..");
const evaluation = join(root, "training/evaluation");
const kinds = ["one object", "two objects", "counting", "colours", "position", "attribution"];

interface Prompt {
  kind: string;
  prompt: string;
  things: { noun: string }[];
}

function json<T>(file: string): T {
  return JSON.parse(readFileSync(join(evaluation, file), "utf8")) as T;
}

test.each(["sketch-1.json", "sketch-2.json", "everything.json"])(
  "%s asks ninety different things of each kind, about nouns it lists",
  (file) => {
    const { nouns, prompts } = json<{ nouns: Record<string, string[]>; prompts: Prompt[] }>(file);
    for (const kind of kinds) {
      const ofKind = prompts.filter((entry) => entry.kind === kind);
      expect(new Set(ofKind.map(({ prompt }) => prompt)).size).toBe(90);
    }
    const known = new Set(Object.keys(nouns));
    const strangers = prompts.flatMap(({ things }) => things).filter(({ noun }) => !known.has(noun));
    expect(strangers).toEqual([]);
  },
);

test("the model card's table holds the evaluation's own figures", () => {
  type Scores = Record<string, number>;
  const results = json<Record<string, { versions: Record<string, Scores> }>>("results.json");
  const card = readFileSync(join(root, "models/easel-sketch/README.md"), "utf8");
  const versions = Object.values(results).flatMap((list) => Object.entries(list.versions));
  expect(versions.length).toBeGreaterThan(0);
  for (const [version, scores] of versions) {
    const figures = [...kinds, "overall"].map((column) => scores[column]!.toFixed(2));
    expect(card).toContain(`| ${version} | ${scores["prompts"]} | ${figures.join(" | ")} |`);
  }
});
