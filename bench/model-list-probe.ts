/** A thread that lists the models every few milliseconds: beside busy clients in one event loop it would measure these. */
import { parentPort, workerData } from "node:worker_threads";

const { url, key, intervalMs } = workerData as { url: string; key: string; intervalMs: number };
const durationsMs: number[] = [];
const stopping = new AbortController();
parentPort!.once("message", () => stopping.abort());

while (!stopping.signal.aborted) {
  const startedMs = performance.now();
  const response = await fetch(`${url}/v1/models`, { headers: { authorization: `Bearer ${key}` } });
  await response.json();
  if (!response.ok) throw new Error(`the model list answered ${response.status}`);
  durationsMs.push(performance.now() - startedMs);
  await new Promise((resolve) => setTimeout(resolve, intervalMs));
}
// oxlint-disable-next-line unicorn/require-post-message-target-origin -- to a thread, not to a window
parentPort!.postMessage(durationsMs);
