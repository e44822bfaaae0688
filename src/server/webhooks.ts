/**
 * Tells the owners of kept jobs how they ended: a POST signed as the Standard Webhooks specification has it, tried again
 * with growing pauses until it is answered with a 2xx. What is still to be told survives a restart.
 */
import { createHmac } from "node:crypto";
import type { Jobs } from "../engine/jobs.ts";
import type { DueWebhook, JobStore } from "../store/jobs.ts";
import { errorBody } from "./error-response.ts";
import { deserializeError } from "../errors.ts";
import { checkTarget, post } from "./public-address.ts";

export interface WebhooksOptions {
  jobs: Jobs;
  store: JobStore;
  allowPrivate: boolean;
  /** Pauses between tries; after the last one it is given up. */
  retryDelaysMs?: readonly number[] | undefined;
  onFault?: ((error: unknown) => void) | undefined;
}

const minuteMs = 60_000;
const defaultRetryDelaysMs = [5_000, 30_000, 2 * minuteMs, 10 * minuteMs, 60 * minuteMs, 360 * minuteMs];
const timeoutMs = 10_000;
/** Deliveries at the same time: a few slow receivers should not hold up the others. */
const maxInFlight = 16;
/** setTimeout knows no longer one. */
const longestTimeoutMs = 2 ** 31 - 1;

export class Webhooks {
  readonly #options: WebhooksOptions;
  readonly #inFlight = new Set<string>();
  #timer: NodeJS.Timeout | undefined;
  #closed = false;

  /** Delivers what is due now, and what comes to be due. */
  constructor(options: WebhooksOptions) {
    this.#options = options;
    options.jobs.observe({ ended: ({ kept }) => void (kept && this.#deliverDue()) });
    this.#deliverDue();
  }

  close(): void {
    this.#closed = true;
    clearTimeout(this.#timer);
  }

  #deliverDue(): void {
    this.#deliver().catch((error: unknown) => this.#options.onFault?.(error));
  }

  async #deliver(): Promise<void> {
    if (this.#closed) return;
    clearTimeout(this.#timer);
    for (const webhook of await this.#options.store.dueWebhooks()) {
      if (this.#inFlight.has(webhook.job.id)) continue;
      const waitMs = webhook.dueAt.getTime() - Date.now();
      if (waitMs > 0) {
        clearTimeout(this.#timer);
        if (!this.#closed) {
          this.#timer = setTimeout(() => this.#deliverDue(), Math.min(waitMs, longestTimeoutMs)).unref();
        }
        return;
      }
      if (this.#inFlight.size >= maxInFlight) return;
      this.#inFlight.add(webhook.job.id);
      void this.#send(webhook)
        .catch((error: unknown) => this.#options.onFault?.(error))
        .finally(() => {
          this.#inFlight.delete(webhook.job.id);
          this.#deliverDue();
        });
    }
  }

  async #send(webhook: DueWebhook): Promise<void> {
    const { store, allowPrivate, retryDelaysMs = defaultRetryDelaysMs } = this.#options;
    const { id } = webhook.job;
    // 410 Gone: the receiver wants no more.
    const isDone = await sendOnce(webhook, allowPrivate).then(
      (status) => (status >= 200 && status < 300) || status === 410,
      () => false,
    );
    if (this.#closed) return;
    const delayMs = isDone ? undefined : retryDelaysMs[webhook.attempts];
    if (!isDone && delayMs === undefined) {
      this.#options.onFault?.(new Error(`the webhook of ${id} was given up after ${webhook.attempts + 1} tries`));
    }
    const again = delayMs === undefined ? undefined : new Date(Date.now() + delayMs);
    await store.rescheduleWebhook(id, webhook.attempts + 1, again);
  }
}

/** The headers that prove who sent `body` and when. `secret` is "whsec_" and base64. */
export function signWebhook(secret: string, id: string, body: string, now: Date): Record<string, string> {
  const timestamp = String(Math.floor(now.getTime() / 1000));
  const signature = createHmac("sha256", Buffer.from(secret.replace(/^whsec_/, ""), "base64"))
    .update(`${id}.${timestamp}.${body}`)
    .digest("base64");
  return { "webhook-id": id, "webhook-timestamp": timestamp, "webhook-signature": `v1,${signature}` };
}

async function sendOnce({ job, url, secret }: DueWebhook, allowPrivate: boolean): Promise<number> {
  const body = JSON.stringify({
    type: `image.job.${job.state}`,
    timestamp: (job.finishedAt ?? new Date()).toISOString(),
    data: {
      id: job.id,
      status: job.state,
      model: job.model,
      ...(job.error ? errorBody(deserializeError(job.error)) : { error: null }),
    },
  });
  // Resolved for each try: a name may have moved, also to where it must not lead.
  const target = await checkTarget(url, { param: "webhook_url", allowPrivate });
  const headers = { "content-type": "application/json", "user-agent": "Easel" };
  return await post(target, {
    headers: { ...headers, ...signWebhook(secret, job.id, body, new Date()) },
    body,
    timeoutMs,
  });
}
