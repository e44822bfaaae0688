/** `easel serve` as a process of its own, as a user runs it. */
import { type ChildProcess, spawn } from "node:child_process";
import { once } from "node:events";
import { join } from "node:path";
import { createInterface } from "node:readline";
import { PeakMemory } from "./measure.ts";

export interface ServerProcess {
  url: string;
  key: string;
  /** The text of a successful answer; a body is sent as JSON by POST. Throws with the answer when it is a refusal. */
  request(path: string, body?: object): Promise<string>;
  /** Ends it; returns the peak memory of both its processes in MB. */
  stop(): number;
  /** When it has ended. */
  ended: Promise<unknown>;
}

/** Starts it in `home`, with environment variables beyond the key. */
export async function startServer(home: string, env: Record<string, string> = {}): Promise<ServerProcess> {
  const key = "bench-key";
  const child = spawn(process.execPath, [join(import.meta.dirname, "../src/cli/main.ts"), "serve", "--port", "0"], {
    env: { ...process.env, EASEL_HOME: home, EASEL_API_KEY: key, EASEL_LOG_LEVEL: "error", ...env },
    stdio: ["ignore", "pipe", "inherit"],
  });
  const memory = new PeakMemory(child);
  const url = await listeningAddress(child);
  const headers = { authorization: `Bearer ${key}`, "content-type": "application/json" };
  let peakMb: number | undefined;
  return {
    ended: once(child, "exit"),
    url,
    key,
    async request(path, body) {
      const sent = body === undefined ? {} : { method: "POST", body: JSON.stringify(body) };
      const response = await fetch(url + path, { ...sent, headers });
      const text = await response.text();
      if (!response.ok) throw new Error(`${path} answered ${response.status}: ${text}`);
      return text;
    },
    stop() {
      if (peakMb === undefined) {
        peakMb = memory.stop();
        child.kill();
      }
      return peakMb;
    },
  };
}

async function listeningAddress(child: ChildProcess): Promise<string> {
  for await (const line of createInterface({ input: child.stdout! })) {
    const address = /listening on (http:\S+)/.exec(line)?.[1];
    if (address !== undefined) {
      child.stdout!.resume();
      return address;
    }
  }
  throw new Error("the server ended before it listened");
}
