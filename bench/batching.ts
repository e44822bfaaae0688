/**
 * Whether the CPU gains by drawing several pictures at once: passes through the built-in model's transformer one at a time
 * and in batches, in turn. Pictures of a batch share their noise level and summary of the prompt; classifier-free guidance's
 * two passes differ in the latter, so for these the gain is an upper bound.
 */
import { availableParallelism } from "node:os";
import { join } from "node:path";
import { ConfigReader } from "../src/models/config-reader.ts";
import { parseFluxConfig } from "../src/models/flux/config.ts";
import { fluxTransformer, ropeTable, timeEmbeddingDim, timestepEmbedding } from "../src/models/flux/transformer.ts";
import { Session } from "../src/onnx/session.ts";
import { imageIds } from "../src/pipelines/latents.ts";
import { readGenerationDefaults } from "../src/pipelines/model-card.ts";
import { NetworkLoader } from "../src/pipelines/network-loader.ts";
import { type Figure, figure, seconds } from "./measure.ts";
import { random } from "./random-flux.ts";

export interface BatchingOptions {
  /** Pixels, multiples of 16. */
  width: number;
  height: number;
  threads: number | undefined;
  rounds: number;
}

const modelDir = join(import.meta.dirname, "../models/easel-sketch");
const batches = [2, 4];

export async function benchBatching({ threads, rounds, ...size }: BatchingOptions): Promise<Figure[]> {
  const config = parseFluxConfig(ConfigReader.read(join(modelDir, "transformer")));
  const load = async (sessionThreads: number) => {
    const options = { device: "cpu", threads: sessionThreads } as const;
    const loader = new NetworkLoader({ ...options, modelDir, precision: "fp32", cacheDir: undefined });
    const graph = await loader.prepare("transformer", (weights) => fluxTransformer(config, weights));
    return await Session.create(graph, options);
  };
  const session = await load(threads ?? availableParallelism());
  const oneThread = await load(1);

  /** What one batch takes, of pictures that differ in their latents and texts. */
  const inputs = (batch: number) => {
    const [rows, columns] = [size.height / 16, size.width / 16];
    const textTokens = readGenerationDefaults(modelDir).maxSequenceLength;
    const ids = new Float32Array(3 * (textTokens + rows * columns));
    ids.set(imageIds(rows, columns), 3 * textTokens);
    const { cos, sin } = ropeTable(ids, config.axesDimsRope);
    const ropeDims = [ids.length / 3, config.attentionHeadDim / 2];
    return {
      img: random([batch, rows * columns, config.inChannels]),
      txt: random([batch, textTokens, config.jointAttentionDim]),
      pooled: random([1, config.pooledProjectionDim]),
      timestep: { data: timestepEmbedding(0.5), dims: [1, timeEmbeddingDim] },
      pe_cos: { data: cos, dims: ropeDims },
      pe_sin: { data: sin, dims: ropeDims },
    };
  };
  const one = inputs(1);
  const many = batches.map((batch) => ({ batch, inputs: inputs(batch), times: [] as number[] }));
  const [alone, onOneThread]: [number[], number[]] = [[], []];
  for (let round = -5; round < rounds; round++) {
    const time = 1000 * (await seconds(() => session.run(one)));
    const timeOnOne = 1000 * (await seconds(() => oneThread.run(one)));
    const times: number[] = [];
    for (const { inputs: batch } of many) times.push(1000 * (await seconds(() => session.run(batch))));
    // The first rounds warm up.
    if (round < 0) continue;
    alone.push(time);
    onOneThread.push(timeOnOne);
    many.forEach((batch, i) => batch.times.push(times[i]! / batch.batch));
  }
  await session.dispose();
  await oneThread.dispose();

  const against = (times: readonly number[]) => times.map((time, i) => alone[i]! / time);
  return [
    figure(`a pass, ${size.width}x${size.height}, one at a time`, "ms", alone),
    ...many.flatMap(({ batch, times }) => [
      figure(`a picture's part of a pass of ${batch}`, "ms", times),
      figure("  one at a time over this, pair by pair", "x", against(times)),
    ]),
    figure("a pass on one thread", "ms", onOneThread),
    figure("  two of these at once could be, pair by pair", "x", against(onOneThread.map((time) => time / 2))),
  ];
}
