/** Large pictures in pieces: each piece is looked at with what surrounds it, and only its middle is kept. */

export interface Tile {
  /** What the tile contributes, in pixels of the small picture. */
  core: Area;
  /** The core and its surroundings, as far as the picture goes. */
  seen: Area;
}

export interface Area {
  left: number;
  top: number;
  width: number;
  height: number;
}

/**
 * Cuts a picture into tiles whose seen areas have sides of about `maxSide` at most, as equal as can be, each seen with
 * `context` pixels around it. The cores cover the picture without overlap, row by row; where a tile begins is a multiple of
 * `multiple`, as `context` must be.
 */
export function tilesOf(width: number, height: number, cutting: Cutting): Tile[] {
  const columns = cut(width, cutting);
  const rows = cut(height, cutting);
  return rows.flatMap((row) =>
    columns.map((column) => ({
      core: { left: column.core.start, top: row.core.start, width: length(column.core), height: length(row.core) },
      seen: { left: column.seen.start, top: row.seen.start, width: length(column.seen), height: length(row.seen) },
    })),
  );
}

export interface Cutting {
  maxSide: number;
  context: number;
  /** Default 1. */
  multiple?: number;
}

interface Span {
  start: number;
  end: number;
}

function cut(size: number, { maxSide, context, multiple = 1 }: Cutting): { core: Span; seen: Span }[] {
  // The first and the last have surroundings on one side only, and as much more of the picture instead.
  const inner = size - 2 * context;
  const count = Math.max(1, Math.ceil(inner / (maxSide - 2 * context)));
  const inside = Array.from({ length: count - 1 }, (_, i) => context + ((i + 1) * inner) / count);
  const borders = [0, ...inside.map((at) => Math.floor(at / multiple) * multiple), size];
  return borders.slice(1).map((end, i) => {
    const core = { start: borders[i]!, end };
    return { core, seen: { start: Math.max(0, core.start - context), end: Math.min(size, core.end + context) } };
  });
}

function length({ start, end }: Span): number {
  return end - start;
}
