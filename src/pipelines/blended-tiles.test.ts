import * as fc from "fast-check";
import { expect, test } from "vitest";
import { BlendedPlanes, overlappingSpans } from "./blended-tiles.ts";

test("spans cover everything, are of one length, and overlap by what was asked", () => {
  const sizes = fc.record({ size: fc.integer({ min: 1, max: 300 }), side: fc.integer({ min: 9, max: 80 }) });
  fc.assert(
    fc.property(sizes, fc.integer({ min: 0, max: 8 }), ({ size, side }, overlap) => {
      const spans = overlappingSpans(size, side, overlap);
      expect(spans[0]!.start).toBe(0);
      expect(spans.at(-1)!.start + spans.at(-1)!.length).toBe(size);
      for (const [i, span] of spans.entries()) {
        expect(span.length).toBe(spans[0]!.length);
        expect(span.length).toBeLessThanOrEqual(side);
        const next = spans[i + 1];
        if (next !== undefined) expect(span.start + span.length - next.start).toBeGreaterThanOrEqual(overlap);
      }
    }),
  );
});

test("tiles cut out of one picture give that picture again", () => {
  const [channels, width, height] = [2, 50, 37];
  const whole = Float32Array.from({ length: channels * width * height }, (_, i) => Math.sin(i));
  const planes = new BlendedPlanes(channels, width, height);
  for (const rows of overlappingSpans(height, 16, 5)) {
    for (const columns of overlappingSpans(width, 20, 5)) {
      const tile = new Float32Array(channels * rows.length * columns.length);
      for (let i = 0; i < tile.length; i++) {
        const x = columns.start + (i % columns.length);
        const y = rows.start + (Math.floor(i / columns.length) % rows.length);
        tile[i] = whole[(Math.floor(i / (columns.length * rows.length)) * height + y) * width + x]!;
      }
      planes.add(tile, columns, rows, 5);
    }
  }
  for (const [i, value] of planes.finish().entries()) expect(value).toBeCloseTo(whole[i]!, 5);
});

test("where two tiles differ, one fades into the other without a step", () => {
  const planes = new BlendedPlanes(1, 30, 1);
  const [left, right] = overlappingSpans(30, 20, 10);
  expect([left, right]).toEqual([
    { start: 0, length: 20 },
    { start: 10, length: 20 },
  ]);
  const row = { start: 0, length: 1 };
  planes.add(new Float32Array(20).fill(0), left!, row, 10);
  planes.add(new Float32Array(20).fill(1), right!, row, 10);
  const values = planes.finish();
  expect(values.subarray(0, 10).every((value) => value === 0)).toBe(true);
  expect(values.subarray(20).every((value) => value === 1)).toBe(true);
  for (let x = 10; x <= 20; x++) {
    const step = values[x]! - values[x - 1]!;
    expect(step).toBeGreaterThan(0);
    expect(step).toBeLessThan(0.11);
  }
});
