import { expect, test } from "vitest";
import { createModerator, wordListModerator } from "./moderation.ts";

const refusal = { code: "content_policy_violation", param: "prompt" };

test.each([
  ["bad", "a BAD cat", true],
  ["bad", "bad", true],
  ["bad", "a bad, cat", true],
  ["bad", "a badger in Baden-Baden", false],
  ["very bad", "very\n  bad", true],
  ["very bad", "very-bad", true],
  ["very bad", "very good, not bad", false],
  ["bad", "ｂａｄ in full width", true],
  ["schön", "wie SCHÖN", true],
  ["злой", "Злой кот", true],
  ["c++", "in c++ please", true],
  ["a.b", "axb", false],
])("a list with %j and the prompt %j: refused is %s", async (word, prompt, refused) => {
  const verdict = wordListModerator([word])(prompt);
  if (refused) await expect(verdict).rejects.toMatchObject(refusal);
  else await expect(verdict).resolves.toBeUndefined();
});

test("an empty list refuses nothing, and without settings moderation is off", async () => {
  await wordListModerator([])("anything");
  expect(createModerator({})).toBeUndefined();
});

test("a list that cannot be read is one clear sentence", () => {
  expect(() => createModerator({ moderationWords: "no-such-file" })).toThrow(
    expect.objectContaining({ code: "io_failed", message: expect.stringContaining("no-such-file") }),
  );
});
