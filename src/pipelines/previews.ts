/** Pictures on the way: when they are shown, and made small enough to be decoded quickly. */
import type { Latents } from "./latent-codec.ts";

/** Latents along a preview's longer side: more would take long to decode. */
const maxPreviewLatents = 32;

/** The steps after which previews are shown: `count` of those from `first` to the one before the last. */
export function previewSteps(count: number, first: number, end: number): number[] {
  return Array.from({ length: count }, (_, i) => first + Math.floor(((i + 1) * (end - first)) / (count + 1)));
}

/** Latents averaged in blocks until neither side exceeds a preview's. */
export function shrink({ data, channels, height, width }: Latents): Latents {
  const factor = Math.ceil(Math.max(height, width) / maxPreviewLatents);
  if (factor === 1) return { data, channels, height, width };
  const small = { channels, height: Math.floor(height / factor), width: Math.floor(width / factor) };
  const averaged = new Float32Array(channels * small.height * small.width);
  for (let i = 0; i < averaged.length; i++) {
    const x = (i % small.width) * factor;
    const y = (Math.floor(i / small.width) % small.height) * factor;
    const channel = Math.floor(i / (small.width * small.height));
    let sum = 0;
    for (let dy = 0; dy < factor; dy++) {
      for (let dx = 0; dx < factor; dx++) sum += data[(channel * height + y + dy) * width + x + dx]!;
    }
    averaged[i] = sum / factor ** 2;
  }
  return { ...small, data: averaged };
}
