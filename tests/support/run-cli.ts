/** The command line as a child process, for tests. */
import { type ChildProcess, spawn } from "node:child_process";
import { readFile } from "node:fs/promises";
import { fileURLToPath } from "node:url";

const main = fileURLToPath(new URL("../../src/cli/main.ts", import.meta.url));

export interface CliRun {
  child: ChildProcess;
  /** What was printed so far. */
  output: { stdout: string; stderr: string };
  /** The exit code, or the signal that ended it. */
  ended: Promise<number | NodeJS.Signals | null>;
}

export interface CliOptions {
  cwd: string;
  env?: Record<string, string>;
}

/** `easel …args` as a program with its arguments and environment: a home below `cwd`, none of the caller's settings. */
export function cliCommand(args: readonly string[], { cwd, env = {} }: CliOptions) {
  const inherited = Object.entries(process.env).filter(([name]) => !/^(EASEL_|HF_)/.test(name));
  return {
    command: [process.execPath, main, ...args] as [string, ...string[]],
    env: { ...Object.fromEntries(inherited), ...homes(cwd), EASEL_THREADS: "1", ...env },
  };
}

/** Homes of its own: neither the models nor the token of whoever runs the tests. */
function homes(cwd: string) {
  return { EASEL_HOME: `${cwd}/home`, HF_HOME: `${cwd}/home/huggingface` };
}

export function startCli(args: readonly string[], options: CliOptions): CliRun {
  const { command, env } = cliCommand(args, options);
  const [program, ...rest] = command;
  const child = spawn(program, rest, { cwd: options.cwd, env, stdio: ["ignore", "pipe", "pipe"] });
  const output = { stdout: "", stderr: "" };
  child.stdout.setEncoding("utf8").on("data", (chunk: string) => (output.stdout += chunk));
  child.stderr.setEncoding("utf8").on("data", (chunk: string) => (output.stderr += chunk));
  const ended = new Promise<number | NodeJS.Signals | null>((resolve) => {
    child.on("close", (code, signal) => resolve(code ?? signal));
  });
  return { child, output, ended };
}

/** Runs `easel …args` to its end. */
export async function runCli(args: readonly string[], options: CliOptions) {
  const { output, ended } = startCli(args, options);
  return { code: await ended, ...output };
}

/** The process ids of the children of `pid` (Linux). */
export async function childrenOf(pid: number): Promise<number[]> {
  const text = await readFile(`/proc/${pid}/task/${pid}/children`, "utf8").catch(() => "");
  return text.trim().split(" ").filter(Boolean).map(Number);
}

export function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch {
    return false;
  }
}
