/**
 * A network's large output, made of overlapping pieces that fade into each other: for networks whose every output depends on the
 * whole input a little (by their norms), so that pieces never fit exactly, as `tilesOf` would have it.
 */
export interface Span {
  start: number;
  length: number;
}

/** Spans of one length, at most `maxLength`, that cover `size` evenly, each sharing at least `overlap` with the next. */
export function overlappingSpans(size: number, maxLength: number, overlap: number): Span[] {
  if (size <= maxLength) return [{ start: 0, length: size }];
  const count = Math.ceil((size - overlap) / (maxLength - overlap));
  const length = Math.ceil((size + (count - 1) * overlap) / count);
  return Array.from({ length: count }, (_, i) => {
    return { start: Math.floor((i * (size - length)) / (count - 1)), length };
  });
}

/** Planes [channels, height, width] of which every place is the weighted mean of the tiles that cover it. */
export class BlendedPlanes {
  readonly #channels: number;
  readonly #width: number;
  readonly #height: number;
  readonly #sums: Float32Array;
  readonly #weights: Float32Array;

  constructor(channels: number, width: number, height: number) {
    this.#channels = channels;
    this.#width = width;
    this.#height = height;
    this.#sums = new Float32Array(channels * width * height);
    this.#weights = new Float32Array(width * height);
  }

  /** Adds a tile [channels, rows.length, columns.length], which counts less and less towards sides where others go on. */
  add(tile: Float32Array, columns: Span, rows: Span, fade: number): void {
    const across = fadingWeights(columns, this.#width, fade);
    const down = fadingWeights(rows, this.#height, fade);
    const plane = this.#width * this.#height;
    for (let y = 0; y < rows.length; y++) {
      for (let x = 0; x < columns.length; x++) {
        const weight = across[x]! * down[y]!;
        const at = (rows.start + y) * this.#width + columns.start + x;
        this.#weights[at]! += weight;
        for (let channel = 0; channel < this.#channels; channel++) {
          this.#sums[channel * plane + at]! += weight * tile[(channel * rows.length + y) * columns.length + x]!;
        }
      }
    }
  }

  /** [channels, height, width]; every place must be covered. */
  finish(): Float32Array {
    const plane = this.#width * this.#height;
    return this.#sums.map((sum, i) => sum / this.#weights[i % plane]!);
  }
}

/** A weight for each place of a span: 1, and near an end that is no end of the whole, less and less within `fade`. */
function fadingWeights({ start, length }: Span, size: number, fade: number): Float32Array {
  return Float32Array.from({ length }, (_, i) => {
    const fromStart = start === 0 ? fade : i + 0.5;
    const fromEnd = start + length === size ? fade : length - i - 0.5;
    return Math.min(1, fromStart / fade, fromEnd / fade);
  });
}
