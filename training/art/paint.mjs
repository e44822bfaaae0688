// Finds the part of a drawing that a colour word repaints: its main hue, or its greys when these are most of it.

import { rgbToHsl } from './colour.mjs';

const HUES = 36;
const WINDOW = 28; // degrees to either side of the main hue
const FADE = 14;

/**
 * Analyses RGBA pixels. Returns the mask (one byte a pixel), the share of the visible area that it covers, and its mean colour
 * as [hue, saturation, lightness] with `shade`, its mean grey level in 0–1.
 */
export function findPaint(data) {
  const count = data.length / 4;
  const hues = new Float64Array(HUES);
  let visible = 0;
  let greys = 0;
  const pixels = Array.from({ length: count }, (_, i) => {
    const alpha = data[4 * i + 3] / 255;
    const [hue, saturation, lightness] = rgbToHsl(data[4 * i], data[4 * i + 1], data[4 * i + 2]);
    const chroma = saturation * (1 - Math.abs(2 * lightness - 1));
    visible += alpha;
    if (chroma > 0.14) hues[Math.floor(hue / 10) % HUES] += alpha * Math.sqrt(chroma);
    else if (lightness > 0.12) greys += alpha;
    return { hue, chroma, lightness, alpha };
  });
  const isGrey = greys > 0.5 * visible;
  const main = mainHue(hues);
  const mask = Buffer.alloc(count);
  let weight = 0;
  const sum = { x: 0, y: 0, chroma: 0, lightness: 0, shade: 0 };
  pixels.forEach(({ hue, chroma, lightness, alpha }, i) => {
    const strength = isGrey ? ramp(0.2 - chroma, 0.05) * ramp(lightness - 0.1, 0.06) : hueWeight(hue, main) * ramp(chroma - 0.06, 0.06);
    mask[i] = Math.round(255 * strength);
    const w = strength * alpha;
    weight += w;
    sum.x += w * chroma * Math.cos((hue * Math.PI) / 180);
    sum.y += w * chroma * Math.sin((hue * Math.PI) / 180);
    sum.chroma += w * chroma;
    sum.lightness += w * lightness;
    sum.shade += (w * (0.299 * data[4 * i] + 0.587 * data[4 * i + 1] + 0.114 * data[4 * i + 2])) / 255;
  });
  const lightness = sum.lightness / weight;
  const chroma = sum.chroma / weight;
  return {
    mask,
    share: weight / visible,
    colour: [((Math.atan2(sum.y, sum.x) * 180) / Math.PI + 360) % 360, chroma, lightness],
    shade: sum.shade / weight,
  };
}

/** The middle of the densest stretch of the hue circle. */
function mainHue(hues) {
  const reach = 2;
  const density = (i) => {
    let total = 0;
    for (let d = -reach; d <= reach; d++) total += hues[(i + d + HUES) % HUES];
    return total;
  };
  let best = 0;
  for (let i = 1; i < HUES; i++) if (density(i) > density(best)) best = i;
  let x = 0;
  for (let d = -reach; d <= reach; d++) x += d * hues[(best + d + HUES) % HUES];
  return (best + 0.5 + x / (density(best) || 1)) * 10;
}

function hueWeight(hue, main) {
  const distance = Math.abs(((hue - main + 540) % 360) - 180);
  return ramp(WINDOW + FADE - distance, FADE);
}

/** 0 below zero, 1 above `width`, straight between. */
const ramp = (x, width) => Math.min(1, Math.max(0, x / width));

/** The colour word that a masked part looks like, or null between words. */
export function nameColour([hue, chroma, lightness]) {
  if (chroma < 0.1) return lightness > 0.82 ? 'white' : lightness < 0.22 ? 'black' : 'gray';
  if (lightness > 0.92) return 'white';
  if (hue < 12 || hue > 345) return lightness > 0.68 ? 'pink' : 'red';
  if (hue < 45) return lightness < 0.47 || chroma < 0.4 ? (lightness < 0.62 ? 'brown' : null) : hue < 38 ? 'orange' : 'yellow';
  if (hue < 65) return 'yellow';
  if (hue < 165) return 'green';
  if (hue < 250) return 'blue';
  if (hue < 295) return 'purple';
  return lightness > 0.55 || hue > 315 ? 'pink' : 'purple';
}
