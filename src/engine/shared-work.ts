/** Which requests are the same work: equal ones with a seed, and those that carry the same idempotency key. */
import { createHash } from "node:crypto";
import { serialize } from "node:v8";
import { InvalidRequestError } from "../errors.ts";
import type { ActiveJob } from "./active-job.ts";
import type { GenerationRequest } from "./generation-request.ts";

/** What makes a request the same as another; undefined parts make it the same as none. */
export interface Likeness {
  fingerprint: string;
  /** Whether a request that is equal in everything may have the same pictures. */
  comparable: boolean;
  clientId: string;
  idempotencyKey: string | undefined;
}

/** What two requests must have in common to be answered with the same pictures. `note`: what else the answer depends on. */
export function fingerprintOf(clientId: string, request: GenerationRequest, note: unknown): string {
  return createHash("sha256")
    .update(serialize([clientId, request, note]))
    .digest("hex");
}

/** Throws `invalid_request` when an idempotency key comes with another request than the first time. */
export function refuseOtherRequest(earlier: string | undefined, now: string): void {
  if (earlier === now) return;
  throw new InvalidRequestError(
    "Idempotency-Key",
    "The Idempotency-Key was used for another request; take a new one for each.",
  );
}

/** The work in hand that others may share; promises, because acceptance takes time. */
export class SharedWork {
  readonly #graceMs: number;
  readonly #byFingerprint = new Map<string, Promise<ActiveJob>>();
  readonly #byIdempotencyKey = new Map<string, { fingerprint: string; job: Promise<ActiveJob> }>();

  /** `graceMs`: how long work that ended well is still found by its idempotency key. */
  constructor(graceMs: number) {
    this.#graceMs = graceMs;
  }

  /** The same work, if it is in hand. Throws `invalid_request` when the idempotency key stands for another request. */
  find(likeness: Likeness): Promise<ActiveJob> | undefined {
    const name = nameOf(likeness);
    const repeated = name === undefined ? undefined : this.#byIdempotencyKey.get(name);
    if (repeated) refuseOtherRequest(repeated.fingerprint, likeness.fingerprint);
    return repeated?.job ?? (likeness.comparable ? this.#byFingerprint.get(likeness.fingerprint) : undefined);
  }

  add(likeness: Likeness, job: Promise<ActiveJob>): void {
    const { fingerprint, comparable } = likeness;
    const name = nameOf(likeness);
    if (comparable) remember(this.#byFingerprint, fingerprint, job, job, 0);
    if (name !== undefined) remember(this.#byIdempotencyKey, name, { fingerprint, job }, job, this.#graceMs);
  }
}

function nameOf({ clientId, idempotencyKey }: Likeness): string | undefined {
  return idempotencyKey === undefined ? undefined : JSON.stringify([clientId, idempotencyKey]);
}

/** Keeps `value` in `map` until `job` has ended, or `lingerMs` longer when it ended well. */
function remember<T>(map: Map<string, T>, name: string, value: T, job: Promise<ActiveJob>, lingerMs: number): void {
  map.set(name, value);
  const forget = () => {
    if (map.get(name) === value) map.delete(name);
  };
  job
    .then(({ result }) => result)
    .then(
      () => (lingerMs === 0 ? forget() : void setTimeout(forget, lingerMs).unref()),
      () => forget(),
    );
}
