import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { availableParallelism, cpus, tmpdir } from "node:os";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, test } from "vitest";
import { multipliesBytesExactly, readProcessor } from "./processor.ts";

let root: string;
beforeEach(() => {
  root = mkdtempSync(join(tmpdir(), "easel-processor-"));
  mkdirSync(join(root, "proc"));
});
afterEach(() => rmSync(root, { recursive: true }));

function cpuinfo(text: string): string {
  writeFileSync(join(root, "proc/cpuinfo"), text);
  return root;
}

const intel = (flags: string) =>
  cpuinfo(
    `processor\t: 0\nmodel name\t: Some Xeon @ 2.0GHz\nflags\t\t: fpu ${flags} ht\nbugs\t\t: avx_vnni\n\nprocessor\t: 1\n`,
  );

describe.skipIf(process.platform !== "linux")("the processor, as Linux tells of it,", () => {
  test.each([
    ["avx2", { AVX2: true, "AVX-512": false, VNNI: false, AMX: false }],
    ["avx2 avx_vnni", { AVX2: true, "AVX-512": false, VNNI: true, AMX: false }],
    ["avx2 avx512f avx512_vnni amx_int8", { AVX2: true, "AVX-512": true, VNNI: true, AMX: true }],
  ])("has of %s what matters here, by the usual names", (flags, instructionSets) => {
    const search = { root: intel(flags), architecture: "x64" };
    expect(readProcessor(search)).toEqual({
      name: "Some Xeon @ 2.0GHz",
      cores: availableParallelism(),
      instructionSets,
    });
    expect(multipliesBytesExactly(search)).toBe(instructionSets.VNNI);
  });

  test("of another kind is asked for other sets, and ARM's always multiplies bytes exactly", () => {
    const search = { root: cpuinfo("processor : 0\nFeatures : fp asimd asimddp\n"), architecture: "arm64" };
    expect(readProcessor(search)).toMatchObject({
      name: cpus()[0]!.model.trim() || "arm64",
      instructionSets: { "NEON dotprod": true, "NEON i8mm": false },
    });
    expect(multipliesBytesExactly(search)).toBe(true);
  });

  test("is named without its sets where nothing tells of them, and is then thought to have none", () => {
    const search = { root: join(root, "nowhere"), architecture: "x64" };
    expect(readProcessor(search).instructionSets).toBeUndefined();
    expect(multipliesBytesExactly(search)).toBe(false);
  });
});
