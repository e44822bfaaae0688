/** A thread that lists the models at a steady rate: beside busy clients in one event loop it would measure these. */
import { parentPort, workerData } from "node:worker_threads";

const { url, key, intervalMs } = workerData as { url: string; key: string; intervalMs: number };
const durationsMs: number[] = [];
const inHand = new Set<Promise<void>>();

async function list(): Promise<void> {
  const startedMs = performance.now();
  const response = await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
  await response.json();
  if (!response.ok) throw new Error(`the model list answered ${response.status}`);
  durationsMs.push(performance.now() - startedMs);
}

// Whether or not the last one was answered: who waits for slow answers asks less often just when the server is slow.
const timer = setInterval(() => {
  const asked = list().finally(() => inHand.delete(asked));
  inHand.add(asked);
}, intervalMs);

parentPort!.once("message", async () => {
  clearInterval(timer);
  await Promise.all(inHand);
  // oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
  parentPort!.postMessage(durationsMs);
});
