import { expect, test } from "vitest";
import { attendsRightly, multipliesHalves } from "./device-checks.ts";

// The CPU computes both rightly, halves in fp32: what is looked for is a check that refuses what is right.
test("a device that computes rightly passes", async () => {
  expect(await attendsRightly("cpu")).toBe(true);
  expect(await multipliesHalves("cpu", true)).toBe(true);
});
