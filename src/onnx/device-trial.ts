/** Whether a device really works here, and how fast it is: found out by using it, in a process of its own. */
import { fork } from "node:child_process";
import { extname } from "node:path";
import type { ResolvedDevice } from "./devices.ts";

export type Trial =
  | {
      works: true;
      operationsPerSecond: number;
      /** Whether ONNX Runtime's attention is right there: on WebGPU devices that do things in fours it is not. */
      attends: boolean;
      /** Whether it computes products of float16 values itself, and rightly. A WebGPU device needs shader-f16 for them. */
      halfPrecision: boolean;
    }
  /** `reason` is a part of a sentence: no capital, no full stop. */
  | { works: false; reason: string };

export interface TrialOptions {
  /** After which the device counts as not working. Default 60 000. */
  timeoutMs?: number | undefined;
}

/** Tries a device whose parts are there. Takes about a second. */
export async function tryDevice(device: ResolvedDevice, { timeoutMs = 60_000 }: TrialOptions = {}): Promise<Trial> {
  // The same extension as this file's: .ts from the repository, .js from the published package.
  const entry = new URL(`device-trial-process${extname(import.meta.url)}`, import.meta.url);
  const child = fork(entry, [device], { execArgv: [], stdio: ["ignore", "ignore", "pipe", "ipc"] });
  const { promise, resolve } = Promise.withResolvers<Trial>();
  let trial: Trial | undefined;
  let messages = "";
  child.stderr?.setEncoding("utf8").on("data", (chunk: string) => (messages += chunk));
  const timer = setTimeout(() => {
    trial ??= { works: false, reason: `it did not answer within ${Math.round(timeoutMs / 1000)} seconds` };
    child.kill("SIGKILL");
  }, timeoutMs);
  child.on("message", (message) => (trial = message as Trial));
  child.on("error", (error) => resolve({ works: false, reason: error.message }));
  child.on("close", (code, signal) =>
    resolve(trial ?? { works: false, reason: `its driver crashed (${signal ?? code})` }),
  );
  try {
    const result = await promise;
    return result.works ? result : { works: false, reason: fullReason(result.reason, messages) };
  } finally {
    clearTimeout(timer);
  }
}

/** What the runtime says, without where in its source it says so; of a library that cannot be loaded, which and why. */
function fullReason(reason: string, messages: string): string {
  const [, library] = /Failed to load library .* with error: (.*)$/m.exec(messages) ?? [];
  if (library !== undefined) return library.replace(/^\/.*\//, "").replace(/\.$/, "");
  return reason.replace(/^\/onnxruntime_src\/.* was false\. /, "");
}
