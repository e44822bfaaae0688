/** Timing and memory of whole processes. */
import { type ChildProcess, spawn, spawnSync } from "node:child_process";
import { readFileSync } from "node:fs";

export interface Figure {
  what: string;
  unit: "s" | "ms" | "MB" | "x" | "/s" | "dB" | "%" | "";
  median: number;
  min: number;
  max: number;
  /** What the figure should not exceed. */
  limit?: number;
}

export function figure(what: string, unit: Figure["unit"], values: readonly number[], limit?: number): Figure {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = sorted.length / 2;
  const median = (sorted[Math.floor(middle)]! + sorted[Math.ceil(middle) - 1]!) / 2;
  const range = { min: sorted[0]!, max: sorted.at(-1)! };
  return limit === undefined ? { what, unit, median, ...range } : { what, unit, median, ...range, limit };
}

/** The value that a share of `values`, from 0 to 1, does not exceed. */
export function percentile(values: readonly number[], share: number): number {
  const sorted = [...values].sort((a, b) => a - b);
  return sorted[Math.max(0, Math.ceil(sorted.length * share) - 1)]!;
}

/** Seconds that `work` takes. */
export async function seconds(work: () => Promise<unknown>): Promise<number> {
  const start = performance.now();
  await work();
  return (performance.now() - start) / 1000;
}

/** What the programs on the first NVIDIA GPU have taken of its memory, in MiB; undefined without such a GPU. */
export function gpuMemoryMb(): number | undefined {
  const query = ["--query-gpu=memory.used", "--format=csv,noheader,nounits"];
  const { stdout } = spawnSync("nvidia-smi", query, { encoding: "utf8", timeout: 10_000 });
  const used = Number.parseInt(stdout ?? "", 10);
  return Number.isFinite(used) ? used : undefined;
}

/** Runs a command to its end; throws with its error output when it fails. Returns seconds and peak memory. */
export async function runCommand(
  command: string,
  args: readonly string[],
): Promise<{ seconds: number; peakMb: number }> {
  const start = performance.now();
  const child = spawn(command, args, { stdio: ["ignore", "ignore", "pipe"] });
  const memory = new PeakMemory(child);
  let errors = "";
  child.stderr.on("data", (data: Buffer) => (errors += data));
  const code = await new Promise<number | null>((resolve, reject) => child.on("exit", resolve).on("error", reject));
  const peakMb = memory.stop();
  if (code !== 0) throw new Error(`${command} ${args.join(" ")} failed: ${errors}`);
  return { seconds: (performance.now() - start) / 1000, peakMb };
}

/** The largest resident memory that a process and its children had together, sampled every 20 ms (Linux only). */
export class PeakMemory {
  readonly #timer: NodeJS.Timeout;
  #peakKb = 0;

  constructor(child: ChildProcess) {
    this.#timer = setInterval(() => (this.#peakKb = Math.max(this.#peakKb, treeKb(child.pid!))), 20);
  }

  /** Megabytes; NaN where /proc does not tell. */
  stop(): number {
    clearInterval(this.#timer);
    return this.#peakKb === 0 ? Number.NaN : this.#peakKb / 1024;
  }
}

function treeKb(pid: number): number {
  try {
    const rss = Number(/VmRSS:\s+(\d+)/.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1] ?? 0);
    const children = readFileSync(`/proc/${pid}/task/${pid}/children`, "utf8").trim().split(" ").filter(Boolean);
    return children.reduce((sum, child) => sum + treeKb(Number(child)), rss);
  } catch {
    return 0; // gone, or no /proc
  }
}
