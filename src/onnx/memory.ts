/** How much memory there is for networks: the machine's, or less where a container or a service is given less. */
import { readFileSync } from "node:fs";
import { freemem, totalmem } from "node:os";
import { dirname, join } from "node:path";

export interface Memory {
  /** What a program could still take without pushing others out; files kept in memory count as free. Bytes. */
  availableBytes: number;
  /** What it could ever take, when nothing else ran. Bytes. */
  totalBytes: number;
}

export interface MemoryOptions {
  /** What this process may take in all, weights that it reads from files included; undefined: no limit but the system's. Bytes. */
  limitBytes?: number | undefined;
  /** Where the system's files are looked for. */
  root?: string | undefined;
}

/** The memory now. */
export function readMemory({ limitBytes, root = "/" }: MemoryOptions = {}): Memory {
  const limits = [machineMemory(root), ...cgroupMemory(root), ...(limitBytes ? [ownMemory(limitBytes)] : [])];
  return {
    availableBytes: Math.max(0, Math.min(...limits.map(({ availableBytes }) => availableBytes))),
    totalBytes: Math.min(...limits.map(({ totalBytes }) => totalBytes)),
  };
}

function ownMemory(limitBytes: number): Memory {
  return { availableBytes: limitBytes - process.memoryUsage.rss(), totalBytes: limitBytes };
}

/** What the machine has, whatever this process is given of it. */
export function machineMemory(root = "/"): Memory {
  const info = read(join(root, "proc/meminfo"));
  const bytesOf = (field: string) =>
    1024 * Number(new RegExp(`^${field}:\\s+(\\d+) kB`, "m").exec(info)?.[1] ?? Number.NaN);
  const [availableBytes, totalBytes] = [bytesOf("MemAvailable"), bytesOf("MemTotal")];
  if (Number.isFinite(availableBytes) && Number.isFinite(totalBytes)) return { availableBytes, totalBytes };
  // macOS calls little memory free, because it keeps files in the rest: there only the whole is a limit.
  const total = totalmem();
  return { availableBytes: process.platform === "darwin" ? total : freemem(), totalBytes: total };
}

/** The limits of the control groups around this process (Linux, versions 2 and 1); none elsewhere. */
function cgroupMemory(root: string): Memory[] {
  const groups = read(join(root, "proc/self/cgroup"));
  const v2 = /^0::(\/.*)$/m.exec(groups)?.[1];
  const v1 = /^\d+:(?:[^:]*,)?memory(?:,[^:]*)?:(\/.*)$/m.exec(groups)?.[1];
  const mount = join(root, "sys/fs/cgroup");
  const limits = [
    ...pathsUp(v2).map((path) => {
      return groupMemory(join(mount, path), { limit: "memory.max", used: "memory.current", prefix: "" });
    }),
    ...pathsUp(v1).map((path) => {
      const files = { limit: "memory.limit_in_bytes", used: "memory.usage_in_bytes", prefix: "total_" };
      return groupMemory(join(mount, "memory", path), files);
    }),
  ];
  return limits.filter((limit) => limit !== undefined);
}

/** "/a/b" → "/a/b", "/a", "/": a group's limits hold for all below it, and inside a container only "/" may exist. */
function pathsUp(path: string | undefined): string[] {
  if (path === undefined) return [];
  return path === "/" ? [path] : [path, ...pathsUp(dirname(path))];
}

function groupMemory(folder: string, files: { limit: string; used: string; prefix: string }): Memory | undefined {
  const limit = Number.parseInt(read(join(folder, files.limit)), 10); // "max" is none
  const used = Number.parseInt(read(join(folder, files.used)), 10);
  // Version 1 says "no limit" by a number near 2^63.
  if (!Number.isFinite(limit) || !Number.isFinite(used) || limit > 2 ** 60) return undefined;
  const stat = read(join(folder, "memory.stat"));
  const kept = ["inactive_file", "active_file"].map((field) => {
    return Number(new RegExp(`^${files.prefix}${field} (\\d+)$`, "m").exec(stat)?.[1] ?? 0);
  });
  return { availableBytes: limit - used + kept.reduce((a, b) => a + b, 0), totalBytes: limit };
}

/** A file's text; empty when there is none. */
function read(path: string): string {
  try {
    return readFileSync(path, "utf8");
  } catch {
    return "";
  }
}
