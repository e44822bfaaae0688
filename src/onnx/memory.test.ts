import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir, totalmem } from "node:os";
import { dirname, join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { readMemory } from "./memory.ts";

const gigabyte = 2 ** 30;
let root: string;
beforeEach(() => (root = mkdtempSync(join(tmpdir(), "easel-memory-"))));
afterEach(() => rmSync(root, { recursive: true }));

/** Files as the kernel shows them. */
function system(files: Record<string, string>): string {
  const machine = { "proc/meminfo": "MemTotal:       33554432 kB\nMemFree: 1024 kB\nMemAvailable:   16777216 kB\n" };
  for (const [path, text] of Object.entries({ ...machine, ...files })) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

describe("the memory for networks", () => {
  it("is what the machine can give, files kept in memory included", () => {
    expect(readMemory({ root: system({}) })).toEqual({ availableBytes: 16 * gigabyte, totalBytes: 32 * gigabyte });
  });

  it("is a container's own where that is less, counting its kept files as free", () => {
    const group = {
      "proc/self/cgroup": "0::/\n",
      "sys/fs/cgroup/memory.max": `${8 * gigabyte}\n`,
      "sys/fs/cgroup/memory.current": `${5 * gigabyte}\n`,
      "sys/fs/cgroup/memory.stat": `anon ${2 * gigabyte}\ninactive_file ${2 * gigabyte}\nactive_file ${gigabyte}\n`,
    };
    expect(readMemory({ root: system(group) })).toEqual({ availableBytes: 6 * gigabyte, totalBytes: 8 * gigabyte });
  });

  it("is the least of all groups around the process, whose own may have no limit", () => {
    const service = "sys/fs/cgroup/system.slice/easel.service";
    const group = {
      "proc/self/cgroup": "0::/system.slice/easel.service\n",
      [`${service}/memory.max`]: "max\n",
      [`${service}/memory.current`]: "1000\n",
      "sys/fs/cgroup/system.slice/memory.max": `${4 * gigabyte}\n`,
      "sys/fs/cgroup/system.slice/memory.current": `${gigabyte}\n`,
    };
    expect(readMemory({ root: system(group) })).toEqual({ availableBytes: 3 * gigabyte, totalBytes: 4 * gigabyte });
  });

  it("is found in control groups of version 1, where no limit is a very large one", () => {
    const folder = "sys/fs/cgroup/memory";
    const group = {
      "proc/self/cgroup": "9:cpu,cpuacct:/docker/abc\n4:memory:/docker/abc\n",
      [`${folder}/memory.limit_in_bytes`]: `${2 * gigabyte}\n`,
      [`${folder}/memory.usage_in_bytes`]: `${gigabyte}\n`,
      [`${folder}/memory.stat`]: `inactive_file 1\ntotal_inactive_file ${gigabyte / 2}\n`,
    };
    expect(readMemory({ root: system(group) }).availableBytes).toBe(1.5 * gigabyte);
    writeFileSync(join(root, folder, "memory.limit_in_bytes"), "9223372036854771712\n");
    expect(readMemory({ root }).availableBytes).toBe(16 * gigabyte);
  });

  it("is at most what this process may still take of its own limit", () => {
    const limited = readMemory({ root: system({}), limitBytes: 4 * gigabyte });
    expect(limited.totalBytes).toBe(4 * gigabyte);
    expect(limited.availableBytes).toBeGreaterThan(0);
    expect(limited.availableBytes).toBeLessThan(4 * gigabyte - 2 ** 20);
    expect(readMemory({ root: system({}), limitBytes: 100 * gigabyte }).totalBytes).toBe(32 * gigabyte);
  });

  it("is never negative, and is told without any of these files too", () => {
    const group = {
      "proc/self/cgroup": "0::/\n",
      "sys/fs/cgroup/memory.max": "1000\n",
      "sys/fs/cgroup/memory.current": "2000\n",
    };
    expect(readMemory({ root: system(group) }).availableBytes).toBe(0);
    expect(readMemory({ root: join(root, "nowhere") }).totalBytes).toBe(totalmem());
  });
});
