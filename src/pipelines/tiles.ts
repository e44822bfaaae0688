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
  const count = size <= maxSide ? 1 : Math.ceil(size / (maxSide - 2 * context));
  const border = (i: number) => (i === count ? size : Math.floor((i * size) / count / multiple) * multiple);
  return Array.from({ length: count }, (_, i) => {
    const core = { start: border(i), end: border(i + 1) };
    return { core, seen: { start: Math.max(0, core.start - context), end: Math.min(size, core.end + context) } };
  });
}

function length({ start, end }: Span): number {
  return end - start;
}
