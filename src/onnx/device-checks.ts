/** Whether a device computes rightly what not all do: small cases, beside what they must give. */
import type { ResolvedDevice } from "./devices.ts";
import { GraphBuilder } from "./graph-builder.ts";
import { Session } from "./session.ts";

/** Half-precision results differ by a tenth of this, wrong ones by far more. */
const tolerance = 0.02;

/** More positions than the runtime's attention takes at a time. */
const [positions, channels] = [64, 64];
const tokens = Float32Array.from({ length: positions * channels }, (_, i) => Math.sin(i * i));

/** Whether the runtime's attention is right on a device. */
export async function attendsRightly(device: ResolvedDevice): Promise<boolean> {
  const graph = new GraphBuilder("attention");
  const x = graph.input("x", "float32", [1, positions, channels]);
  graph.output("y", graph.attention(x, x, x, { heads: 1 }));
  const session = await Session.create(graph.build(), { device, threads: 0 });
  const { y } = await session.run({ x: { data: tokens, dims: [1, positions, channels] } });
  return isAttention(y!.data, tokens);
}

/**
 * Whether the device itself does, in half precision, the products that an fp16 model has.
 *
 * @param attends as `attendsRightly` found
 * @throws where the device has no such numbers at all
 */
export async function multipliesHalves(device: ResolvedDevice, attends: boolean): Promise<boolean> {
  const matrix = Float32Array.from({ length: channels ** 2 }, (_, i) => Math.sin(i * i) * Math.sqrt(2 / channels));
  const graph = new GraphBuilder("half_precision");
  const x = graph.input("x", "float32", [1, positions, channels]);
  const y = graph.linearHalf(x, graph.half(graph.constant(matrix, [channels, channels])));
  graph.output("y", graph.attention(y, y, y, { heads: 1 }));
  const onCpu: string[] = [];
  const session = await Session.create(graph.build(), {
    device,
    threads: 0,
    attentionOnCpu: !attends,
    onCpuOperations: (names) => onCpu.push(...names),
  });
  const result = await session.run({ x: { data: tokens, dims: [1, positions, channels] } });
  const products = tokens.map((_, i) => {
    const row = tokens.subarray(i - (i % channels), i - (i % channels) + channels);
    return row.reduce((sum, value, j) => sum + value * matrix[j * channels + (i % channels)]!, 0);
  });
  return !onCpu.includes("MatMul") && isAttention(result["y"]!.data, products);
}

/** Whether `actual` is what the tokens [positions, channels] are after attention to each other. */
function isAttention(actual: Float32Array, data: Float32Array): boolean {
  const rows = Array.from({ length: positions }, (_, i) => data.subarray(i * channels, (i + 1) * channels));
  return rows.every((query, position) => {
    const weights = rows.map((key) => Math.exp(dot(query, key) / Math.sqrt(channels)));
    const total = weights.reduce((a, b) => a + b);
    return query.every((_, channel) => {
      const expected = rows.reduce((sum, value, i) => sum + value[channel]! * weights[i]!, 0) / total;
      return Math.abs(actual[position * channels + channel]! - expected) < tolerance;
    });
  });
}

function dot(a: Float32Array, b: Float32Array): number {
  return a.reduce((sum, value, i) => sum + value * b[i]!, 0);
}
