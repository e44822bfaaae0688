/** The engine process as its parent sees it: started when needed, watched, and replaced after a crash. */
import { type ChildProcess, fork } from "node:child_process";
import { randomUUID } from "node:crypto";
import { once } from "node:events";
import { setPriority } from "node:os";
import { extname } from "node:path";
import { CancelledError, deserializeError, EaselError } from "../errors.ts";
import type { DeviceChoice } from "../onnx/device-choice.ts";
import type { Progress } from "../pipelines/flux-pipeline.ts";
import type { ConversionTotals } from "../pipelines/model-conversion.ts";
import type {
  EncodedPreview,
  EngineWork,
  EnlargementJob,
  EnlargementResult,
  FromEngineProcess,
  GenerationJob,
  JobResult,
  ToEngineProcess,
} from "./engine-messages.ts";

export interface EngineHostOptions {
  /** How long a cancelled job may take to stop before the process is killed. Default 3000. */
  cancelGraceMs?: number | undefined;
  /** Shows the native libraries' messages on stderr. */
  debug?: boolean | undefined;
  /** Lets other programs go first, the more the higher (a Unix nice value, 0 to 19). Default 0. */
  niceness?: number | undefined;
}

export interface RunOptions {
  signal?: AbortSignal | undefined;
  /** While a model's weights are converted, which happens once. */
  onConversion?: ((totals: ConversionTotals) => void) | undefined;
  /** When a model was loaded anew. */
  onDevice?: ((choice: DeviceChoice) => void) | undefined;
  onProgress?: ((progress: Progress) => void) | undefined;
  onPreview?: ((preview: EncodedPreview) => void) | undefined;
}

const stderrTailLength = 4096;

export class EngineHost {
  readonly #cancelGraceMs: number;
  readonly #debug: boolean;
  readonly #niceness: number;
  #child: ChildProcess | undefined;
  #stderrTail = "";

  constructor({ cancelGraceMs = 3000, debug = false, niceness = 0 }: EngineHostOptions = {}) {
    this.#cancelGraceMs = cancelGraceMs;
    this.#debug = debug;
    this.#niceness = niceness;
  }

  /** The process's id, while one is running. */
  get pid(): number | undefined {
    return this.#child?.pid;
  }

  /** Starts the process if none is running, so that the first job finds it ready. */
  start(): ChildProcess {
    if (this.#child) return this.#child;
    // The same extension as this file's: .ts from the repository, .js from the published package.
    const entry = new URL(`engine-process${extname(import.meta.url)}`, import.meta.url);
    const child = fork(entry, [], {
      serialization: "advanced",
      execArgv: [],
      stdio: this.#debug ? ["ignore", 2, 2, "ipc"] : ["ignore", "ignore", "pipe", "ipc"],
    });
    this.#child = child;
    this.#stderrTail = "";
    if (this.#niceness > 0 && child.pid !== undefined) setPriority(child.pid, this.#niceness);
    child.stderr?.setEncoding("utf8").on("data", (chunk: string) => {
      this.#stderrTail = (this.#stderrTail + chunk).slice(-stderrTailLength);
    });
    const forget = () => {
      if (this.#child === child) this.#child = undefined;
    };
    child.once("exit", forget).once("error", forget);
    return child;
  }

  /** Draws pictures. Throws like `#run`. */
  async generate(job: GenerationJob, options: RunOptions = {}): Promise<JobResult> {
    return (await this.#run({ type: "generate", job }, options)) as JobResult;
  }

  /** Enlarges a picture. Throws like `#run`. */
  async enlarge(job: EnlargementJob, options: RunOptions = {}): Promise<EnlargementResult> {
    return (await this.#run({ type: "enlarge", job }, options)) as EnlargementResult;
  }

  /**
   * Runs one job at a time. Settles when the process is free again: for a cancelled job that is when it has stopped, by
   * itself or by being killed. Throws what the job threw, `cancelled`, or `engine_crashed`.
   */
  async #run(work: EngineWork, { signal, onConversion, onDevice, onProgress, onPreview }: RunOptions) {
    if (signal?.aborted) throw new CancelledError();
    const id = randomUUID();
    const child = this.start();
    const { promise, resolve, reject } = Promise.withResolvers<JobResult | EnlargementResult>();
    let killTimer: NodeJS.Timeout | undefined;

    const onMessage = (message: FromEngineProcess) => {
      if (message.id !== id) return;
      if (message.type === "conversion") onConversion?.(message.totals);
      else if (message.type === "device") onDevice?.(message.choice);
      else if (message.type === "progress") onProgress?.(message.progress);
      else if (message.type === "preview") onPreview?.(message.preview);
      else if (message.type === "done") resolve(message.result);
      else reject(deserializeError(message.error));
    };
    const onExit = (exitCode: number | null, exitSignal: NodeJS.Signals | null) => {
      const cause =
        exitSignal === "SIGKILL" ? "killed, perhaps for want of memory" : (exitSignal ?? `exit code ${exitCode}`);
      reject(signal?.aborted ? new CancelledError() : this.#crash(cause));
    };
    const onError = (error: Error) => reject(this.#crash(error.message));
    const onAbort = () => {
      send(child, { type: "cancel", id });
      killTimer = setTimeout(() => child.kill("SIGKILL"), this.#cancelGraceMs);
    };

    child.on("message", onMessage).on("exit", onExit).on("error", onError);
    signal?.addEventListener("abort", onAbort);
    try {
      send(child, { ...work, id });
      return await promise;
    } finally {
      clearTimeout(killTimer);
      signal?.removeEventListener("abort", onAbort);
      child.off("message", onMessage).off("exit", onExit).off("error", onError);
    }
  }

  /** Ends the process at once; it holds nothing that needs saving. */
  async close(): Promise<void> {
    const child = this.#child;
    if (!child) return;
    const exited = once(child, "exit");
    child.kill("SIGKILL");
    await exited;
  }

  #crash(how: string): EaselError {
    return new EaselError(
      "engine_crashed",
      `The engine process ended unexpectedly (${how}); the next request gets a new one.`,
      this.#stderrTail === "" ? {} : { cause: new Error(this.#stderrTail.trim()) },
    );
  }
}

function send(child: ChildProcess, message: ToEngineProcess): void {
  // A closed channel is reported by the `exit` event, which also says why.
  child.send(message, undefined, undefined, () => {});
}
