import { Writable } from "node:stream";
import { describe, expect, test } from "vitest";
import { ByteProgress, formatDuration } from "./byte-progress.ts";

/** A stream that remembers what it was given. */
function fakeStream(terminal: boolean) {
  let text = "";
  const stream = new Writable({
    write(chunk: Buffer, _, done) {
      text += chunk.toString();
      done();
    },
  });
  Object.assign(stream, { isTTY: terminal, columns: 60 });
  return { stream: stream as unknown as NodeJS.WriteStream, written: () => text };
}

const plan = {
  type: "plan" as const,
  files: [
    { path: "a.safetensors", sizeBytes: 4000, receivedBytes: 1000 },
    { path: "a/name/that/is/much/longer/than/the/terminal/is/wide.safetensors", sizeBytes: 6000, receivedBytes: 0 },
  ],
};

describe("a download's progress", () => {
  test("on a terminal is a bar for each file on its way and a line for the whole, and vanishes", () => {
    const { stream, written } = fakeStream(true);
    const progress = new ByteProgress({ stream });
    progress.onEvent(plan);
    progress.onEvent({ type: "bytes", path: plan.files[1]!.path, receivedBytes: 3000 });
    const lines = written().split("\n");
    expect(lines[0]).toBe("██████░░░░░░░░░░░░░░░░░░ 1.0 kB of 4.0 kB  a.safetensors");
    expect(lines[1]).toMatch(/^████████████░░░░░░░░░░░░ 3\.0 kB of 6\.0 kB {2}a\/name/);
    expect(lines[1]?.length).toBe(59);
    expect(lines[2]).toMatch(/^40 % {2}4\.0 kB of 10\.0 kB, .*\/s, \d+ s left$/);
    progress[Symbol.dispose]();
    expect(written().endsWith("\x1b[2A\r\x1b[J")).toBe(true);
  });

  test("elsewhere is a line for what is to come and one for each tenth", () => {
    const { stream, written } = fakeStream(false);
    using progress = new ByteProgress({ stream });
    progress.onEvent(plan);
    for (let receivedBytes = 0; receivedBytes <= 6000; receivedBytes += 100) {
      progress.onEvent({ type: "bytes", path: plan.files[1]!.path, receivedBytes });
    }
    const [first, ...tenths] = written().trimEnd().split("\n");
    expect(first).toBe("Downloading 2 files, 10.0 kB, of which 1.0 kB are here");
    expect(tenths.map((line) => line.split(" ")[0])).toEqual(["20", "30", "40", "50", "60", "70"]);
    expect([progress.receivedBytes, progress.totalBytes]).toEqual([7000, 10_000]);
  });

  test("leaves the bars in order when a sentence comes between", () => {
    const { stream, written } = fakeStream(true);
    using progress = new ByteProgress({ stream });
    progress.onEvent(plan);
    progress.onEvent({ type: "bytes", path: "a.safetensors", receivedBytes: 2000 });
    progress.notice("a.safetensors: the connection broke off.");
    expect(written().endsWith("\x1b[1A\r\x1b[Ja.safetensors: the connection broke off.\n")).toBe(true);
  });
});

test.each([
  [0.2, "1 s"],
  [59.5, "1 min 0 s"],
  [250, "4 min 10 s"],
  [7500, "2 h 5 min"],
])("%d seconds are written as %s", (seconds, text) => {
  expect(formatDuration(seconds)).toBe(text);
});
