import { CancelledError } from "../errors.ts";
import { exitCodes } from "./exit-codes.ts";

/**
 * Watches for Ctrl-C and for a service manager's stop. The first aborts `signal`; after it the usual effect of these
 * signals is back, so a second one ends the process at once.
 */
export class Interruption {
  readonly #controller = new AbortController();
  #exitCode: number = exitCodes.interrupted;
  readonly #onInterrupt = () => this.#abort(exitCodes.interrupted);
  readonly #onTerminate = () => this.#abort(exitCodes.terminated);

  constructor() {
    process.on("SIGINT", this.#onInterrupt).on("SIGTERM", this.#onTerminate);
  }

  get signal(): AbortSignal {
    return this.#controller.signal;
  }

  /** What to exit with once `signal` has aborted. */
  get exitCode(): number {
    return this.#exitCode;
  }

  [Symbol.dispose](): void {
    process.off("SIGINT", this.#onInterrupt).off("SIGTERM", this.#onTerminate);
  }

  #abort(exitCode: number): void {
    this[Symbol.dispose]();
    this.#exitCode = exitCode;
    this.#controller.abort(new CancelledError());
  }
}
