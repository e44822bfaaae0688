/**
 * What the API costs beyond the drawing: a server answers one request at a time, and the same picture is drawn by the pipeline
 * alone in this process, in turn. The difference is HTTP, the key, the records, the queue, the way to the engine process
 * and back, the file with its metadata, base64 and the transfer.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { FluxPipeline } from "../src/pipelines/flux-pipeline.ts";
import type { GenerationParams } from "../src/pipelines/generation-plan.ts";
import { type ServerProcess, startServer } from "./easel-server.ts";
import { type Figure, figure, percentile, seconds } from "./measure.ts";

const root = join(import.meta.dirname, "..");
/** One thread for each: the smallest networks gain nothing by more, and two processes would take them from each other. */
const threads = 1;

interface Drawing {
  name: string;
  modelDir: string;
  side: number;
}

const drawings: Drawing[] = [
  { name: "16x16", modelDir: join(root, "tests/fixtures/flux-schnell-tiny"), side: 16 },
  { name: "256x256, the built-in model", modelDir: join(root, "models/easel-sketch"), side: 256 },
];

/** `rounds`: pictures of each kind; other requests come in thousands. */
export async function benchApiOverhead({ rounds }: { rounds: number }): Promise<Figure[]> {
  const home = mkdtempSync(join(tmpdir(), "easel-bench-"));
  try {
    const figures: Figure[] = [];
    for (const drawing of drawings) {
      const env = { EASEL_MODEL: drawing.modelDir, EASEL_THREADS: String(threads) };
      const server = await startServer(home, env);
      try {
        figures.push(...(await overhead(server, drawing, rounds)));
        if (drawing === drawings[0]) figures.push(...(await small(server)));
      } finally {
        server.stop();
        await server.ended;
      }
    }
    return figures;
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
}

async function overhead(server: ServerProcess, { name, modelDir, side }: Drawing, rounds: number): Promise<Figure[]> {
  const pipeline = await FluxPipeline.load({ modelDir, threads, device: "cpu" });
  try {
    const prompt = "a white cat";
    const body = { prompt, size: `${side}x${side}`, steps: 1, seed: 7 };
    const params: GenerationParams = { prompt, width: side, height: side, numInferenceSteps: 1, seed: 7, numImages: 1 };
    const request = () => server.request("/v1/images/generations", body);
    const draw = () => pipeline.generate(params);
    const [whole, drawing]: [number[], number[]] = [[], []];
    for (let round = -3; round < rounds; round++) {
      const times = [1000 * (await seconds(request)), 1000 * (await seconds(draw))] as const;
      // The first rounds load and warm up.
      if (round < 0) continue;
      whole.push(times[0]);
      drawing.push(times[1]);
    }
    return [
      figure(`a picture by the API, ${name}, one step`, "ms", whole),
      figure("  the pipeline alone", "ms", drawing),
      figure(
        "  beyond it, pair by pair",
        "ms",
        whole.map((time, i) => time - drawing[i]!),
      ),
    ];
  } finally {
    await pipeline.dispose();
  }
}

/** Requests that draw nothing, one after the other and sixteen at a time. */
async function small(server: ServerProcess): Promise<Figure[]> {
  const figures: Figure[] = [];
  for (const path of ["/healthz", "/v1/models", "/v1/usage"]) {
    const durations: number[] = [];
    for (let i = 0; i < 1000; i++) durations.push(1000 * (await seconds(() => server.request(path))));
    const perSecond = [];
    for (let round = 0; round < 3; round++) perSecond.push(await throughput(server, path));
    figures.push(
      figure(`GET ${path}`, "ms", durations.slice(200)),
      figure("  its 99th percentile", "ms", [percentile(durations.slice(200), 0.99)]),
      figure("  sixteen clients at once", "/s", perSecond),
    );
  }
  return figures;
}

async function throughput(server: ServerProcess, path: string): Promise<number> {
  const count = 2000;
  let begun = 0;
  const client = async () => {
    while (begun++ < count) await server.request(path);
  };
  return count / (await seconds(() => Promise.all(Array.from({ length: 16 }, client))));
}
