/**
 * The layout of latents: FLUX packs each 2×2 patch into one token of four times the channels, and every token has a
 * position. Follows diffusers' FluxPipeline (`_pack_latents`, `_unpack_latents`, `_prepare_latent_image_ids`).
 */
/** [1, C, H, W] → [1, H/2·W/2, 4C]; a token holds its patch channel by channel. `height` and `width` are even. */
export function packLatents(latents: Float32Array, channels: number, height: number, width: number): Float32Array {
  const packed = new Float32Array(latents.length);
  forEachPatchValue(channels, height, width, (inPacked, inLatents) => {
    packed[inPacked] = latents[inLatents]!;
  });
  return packed;
}

/** [1, H/2·W/2, 4C] → [1, C, H, W], the inverse of `packLatents`. */
export function unpackLatents(packed: Float32Array, channels: number, height: number, width: number): Float32Array {
  const latents = new Float32Array(packed.length);
  forEachPatchValue(channels, height, width, (inPacked, inLatents) => {
    latents[inLatents] = packed[inPacked]!;
  });
  return latents;
}

/** Where each image token stands: (0, row, column), for `rows` × `columns` tokens. [rows·columns, 3] */
export function imageIds(rows: number, columns: number): Float32Array {
  const ids = new Float32Array(rows * columns * 3);
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) ids.set([0, row, column], (row * columns + column) * 3);
  }
  return ids;
}

/** Text tokens all stand at the origin. [length, 3] */
export function textIds(length: number): Float32Array {
  return new Float32Array(length * 3);
}

/** Calls `visit` with the two places of every value, in the packed order. */
function forEachPatchValue(
  channels: number,
  height: number,
  width: number,
  visit: (inPacked: number, inLatents: number) => void,
): void {
  let inPacked = 0;
  for (let top = 0; top < height; top += 2) {
    for (let left = 0; left < width; left += 2) {
      for (let channel = 0; channel < channels; channel++) {
        const corner = (channel * height + top) * width + left;
        visit(inPacked++, corner);
        visit(inPacked++, corner + 1);
        visit(inPacked++, corner + width);
        visit(inPacked++, corner + width + 1);
      }
    }
  }
}
