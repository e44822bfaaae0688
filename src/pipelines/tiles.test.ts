import * as fc from "fast-check";
import { expect, test } from "vitest";
import { tilesOf } from "./tiles.ts";

const pictures = fc.record({
  width: fc.integer({ min: 1, max: 700 }),
  height: fc.integer({ min: 1, max: 700 }),
  multiple: fc.constantFrom(1, 2, 16),
  context: fc.constantFrom(0, 16, 32),
  extra: fc.integer({ min: 16, max: 300 }),
});

test("tiles cover every pixel once, see what surrounds them, and begin where the network's cells do", () => {
  fc.assert(
    fc.property(pictures, ({ width, height, multiple, context, extra }) => {
      const covered = new Uint8Array(width * height);
      for (const { core, seen } of tilesOf(width, height, { maxSide: 2 * context + extra, context, multiple })) {
        for (let y = core.top; y < core.top + core.height; y++) {
          for (let x = core.left; x < core.left + core.width; x++) covered[y * width + x]!++;
        }
        expect([core.left % multiple, core.top % multiple]).toEqual([0, 0]);
        expect(seen.left).toBe(Math.max(0, core.left - context));
        expect(seen.top).toBe(Math.max(0, core.top - context));
        expect(seen.left + seen.width).toBe(Math.min(width, core.left + core.width + context));
        expect(seen.top + seen.height).toBe(Math.min(height, core.top + core.height + context));
        // Cut where the cells begin, a tile may be that much larger than its share.
        expect(Math.max(seen.width, seen.height)).toBeLessThanOrEqual(2 * context + extra + multiple);
      }
      expect(covered.every((times) => times === 1)).toBe(true);
    }),
    { numRuns: 50 },
  );
});

test("a picture that fits is one tile", () => {
  const whole = { left: 0, top: 0, width: 256, height: 200 };
  expect(tilesOf(256, 200, { maxSide: 256, context: 18 })).toEqual([{ core: whole, seen: whole }]);
});

test("tiles are no more than needed: those at the edge have surroundings on one side only", () => {
  const tiles = tilesOf(256, 160, { maxSide: 160, context: 32 });
  expect(tiles.map(({ core, seen }) => [core.left, core.width, seen.left, seen.width])).toEqual([
    [0, 128, 0, 160],
    [128, 128, 96, 160],
  ]);
});
