import { describe, expect, it } from "vitest";
import { GraphBuilder, type Value } from "./graph-builder.ts";
import { Session } from "./session.ts";

/** Runs a graph of one input x and one output y on the CPU. */
async function run(dims: number[], build: (g: GraphBuilder, x: Value) => Value, data: number[]) {
  const g = new GraphBuilder("test");
  g.output("y", build(g, g.input("x", "float32", dims)));
  const session = await Session.create(g.build(), { device: "cpu", threads: 1 });
  const { y } = await session.run({ x: { data: Float32Array.from(data), dims } });
  await session.dispose();
  return { dims: [...y!.dims], data: [...y!.data].map((value) => Math.round(value * 1e4) / 1e4) };
}

const matrix = (g: GraphBuilder, rows: number[][]) =>
  g.constant(Float32Array.from(rows.flat()), [rows.length, rows[0]!.length]);

describe("the graph builder", () => {
  it("multiplies by a transposed weight and adds the bias, as torch.nn.Linear", async () => {
    const y = await run(
      [1, 1, 2],
      (g, x) =>
        g.linear(
          x,
          matrix(g, [
            [1, 2],
            [3, 4],
            [5, 6],
          ]),
          g.constant(new Float32Array([10, 20, 30]), [3]),
        ),
      [1, -1],
    );
    expect(y).toEqual({ dims: [1, 1, 3], data: [9, 19, 29] });
  });

  it("bends what is negative, by one slope or by each channel's own", async () => {
    const leaky = await run([1, 1, 1, 2], (g, x) => g.leakyRelu(x, 0.1), [3, -2]);
    expect(leaky.data).toEqual([3, -0.2]);
    const slopes = [0.5, 2];
    const learnt = await run(
      [1, 2, 1, 2],
      (g, x) => g.prelu(x, g.constant(Float32Array.from(slopes), [2])),
      [3, -2, 3, -2],
    );
    expect(learnt.data).toEqual([3, -1, 3, -4]);
  });

  it("moves pixels into channels and back in torch's order", async () => {
    // Two channels of 2 × 2; torch.nn.PixelUnshuffle keeps a channel's four pixels together.
    const values = [1, 2, 3, 4, 5, 6, 7, 8];
    const folded = await run([1, 2, 2, 2], (g, x) => g.pixelUnshuffle(x, 2), values);
    expect(folded).toEqual({ dims: [1, 8, 1, 1], data: values });
    const unfolded = await run([1, 8, 1, 1], (g, x) => g.pixelShuffle(x, 2), values);
    expect(unfolded).toEqual({ dims: [1, 2, 2, 2], data: values });
  });

  it("normalizes over the last axis, with and without the mean", async () => {
    const layer = await run([1, 4], (g, x) => g.layerNorm(x, 0), [1, 3, 1, 3]);
    expect(layer.data).toEqual([-1, 1, -1, 1]);
    const rms = await run([1, 2], (g, x) => g.rmsNorm(x, g.constant(new Float32Array([1, 2]), [2]), 0), [3, 4]);
    expect(rms.data).toEqual([0.8485, 2.2627]); // 3 and 2·4 over √12.5
  });

  it("normalizes groups of channels and then scales each channel", async () => {
    const y = await run(
      [1, 4, 1, 1],
      (g, x) =>
        g.groupNorm(x, 2, 0, g.constant(new Float32Array([1, 1, 2, 2]), [4]), g.constant(new Float32Array(4), [4])),
      [0, 2, 10, 30],
    );
    expect(y.data).toEqual([-1, 1, -2, 2]);
  });

  it("rotates neighbouring pairs by each position's angle", async () => {
    // One head of 2, positions turned by 0 and by 90 degrees.
    const y = await run(
      [1, 2, 2],
      (g, x) => g.rotaryEmbedding(x, matrix(g, [[1], [0]]), matrix(g, [[0], [1]]), 1),
      [1, 2, 1, 2],
    );
    expect(y.data).toEqual([1, 2, -2, 1]);
  });

  it("hides later positions from causal attention", async () => {
    const y = await run([1, 2, 1], (g, x) => g.attention(x, x, x, { heads: 1, causal: true }), [1, 2]);
    expect(y.data[0]).toBe(1);
    expect(y.data[1]).toBeGreaterThan(1.5);
  });

  it("adds a bias to the attention scores", async () => {
    const bias = [
      [0, -1e4],
      [0, -1e4],
    ];
    const y = await run(
      [1, 2, 1],
      (g, x) => g.attention(x, x, x, { heads: 1, bias: g.constant(Float32Array.from(bias.flat()), [1, 1, 2, 2]) }),
      [1, 2],
    );
    expect(y.data).toEqual([1, 1]);
  });

  it("refuses shapes that do not fit while the graph is written", () => {
    const g = new GraphBuilder("test");
    const x = g.input("x", "float32", [1, "L", 3]);
    expect(() => g.linear(x, matrix(g, [[1, 2]]))).toThrow("expects 2 on axis -1, not 3");
    expect(() => g.add(x, g.input("other", "float32", [1, "M", 3]))).toThrow(
      "cannot broadcast [1, L, 3] with [1, M, 3]",
    );
    expect(() => g.constant(new Float32Array(3), [2, 2])).toThrow("needs 4 values, not 3");
  });
});
