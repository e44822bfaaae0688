import { expect, test } from "vitest";
import { startServer } from "./support/easel-server.ts";

/** Longer on demand: EASEL_LOAD_SECONDS=60 vitest run tests/server-load.test.ts */
const seconds = Number(process.env["EASEL_LOAD_SECONDS"] ?? 5);
const clients = 200;
const body = JSON.stringify({ prompt: "a white cat", size: "16x16", steps: 1 });
const pixelSteps = 16 * 16;

test(
  "of 200 clients at once, some of whom leave, nobody's picture is lost and nothing is charged twice",
  { timeout: (seconds + 295) * 1000 },
  async () => {
    await using server = await startServer({ EASEL_QUEUE_BOUND: "100", EASEL_QUEUE_BOUND_PER_KEY: "40" });
    const keys = await Promise.all(["a", "b", "c", "d"].map((name) => server.keys.create(name)));
    const counts = { drawn: 0, refused: 0, left: 0 };
    const deadline = performance.now() + seconds * 1000;

    const client = async (index: number) => {
      const headers = { authorization: `Bearer ${keys[index % keys.length]?.key}`, "content-type": "application/json" };
      while (performance.now() < deadline) {
        const signal = index % 10 === 0 ? AbortSignal.timeout(50) : null;
        try {
          const response = await fetch(`${server.url}/v1/images/generations`, {
            method: "POST",
            headers,
            body,
            signal,
          });
          const answer = (await response.json()) as { data?: { b64_json: string }[]; error?: { code: string } };
          if (response.status === 200 && answer.data?.[0]?.b64_json) counts.drawn++;
          else if (response.status === 503 && answer.error?.code === "queue_full") {
            expect(Number(response.headers.get("retry-after"))).toBeGreaterThan(0);
            counts.refused++;
            await new Promise((resolve) => setTimeout(resolve, 100));
          } else throw new Error(`status ${response.status}: ${JSON.stringify(answer)}`);
        } catch (error) {
          if (!signal?.aborted) throw error;
          counts.left++;
        }
      }
    };
    const durations: number[] = [];
    const lister = async () => {
      while (performance.now() < deadline) {
        const startedMs = performance.now();
        expect((await server.fetch("/v1/models")).status).toBe(200);
        durations.push(performance.now() - startedMs);
        await new Promise((resolve) => setTimeout(resolve, 20));
      }
    };
    await Promise.all([lister(), ...Array.from({ length: clients }, (_, index) => client(index))]);
    while (server.jobs.inHand > 0) await new Promise((resolve) => setTimeout(resolve, 20));

    const { data } = (await (await server.fetch("/v1/usage?key=all")).json()) as {
      data: { pictures: number; megapixel_steps: number }[];
    };
    const pictures = data.reduce((sum, row) => sum + row.pictures, 0);
    const charged = data.reduce((sum, row) => sum + row.megapixel_steps, 0);
    durations.sort((a, b) => a - b);
    const p99 = durations[Math.floor(durations.length * 0.99)] ?? 0;
    console.log({ ...counts, pictures, modelListP99Ms: Math.round(p99) });
    // A client may leave when its picture has just been drawn.
    expect(pictures).toBeGreaterThanOrEqual(counts.drawn);
    expect(pictures).toBeLessThanOrEqual(counts.drawn + counts.left);
    expect(charged).toBeLessThanOrEqual(((counts.drawn + counts.left) * pixelSteps) / 1e6 + 1e-9);
    expect(charged).toBeGreaterThanOrEqual((counts.drawn * pixelSteps) / 1e6 - 1e-9);
    expect(counts.drawn).toBeGreaterThan(0);
  },
);
