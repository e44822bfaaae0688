// Colour arithmetic: hue in degrees, saturation and lightness in 0–1.

/** Bytes to [hue, saturation, lightness]. */
export function rgbToHsl(red, green, blue) {
  const [r, g, b] = [red / 255, green / 255, blue / 255];
  const max = Math.max(r, g, b);
  const range = max - Math.min(r, g, b);
  const lightness = max - range / 2;
  if (range === 0) return [0, 0, lightness];
  const saturation = range / (1 - Math.abs(2 * lightness - 1));
  const sector = max === r ? ((g - b) / range + 6) % 6 : max === g ? (b - r) / range + 2 : (r - g) / range + 4;
  return [sector * 60, saturation, lightness];
}

/** Formats hue (any degrees), saturation and lightness (clamped to 0–1) as `rgb(r,g,b)`. */
export function hsl(hue, saturation, lightness) {
  const h = ((hue % 360) + 360) % 360;
  const s = clamp(saturation);
  const l = clamp(lightness);
  const channel = (n) => {
    const k = (n + h / 30) % 12;
    return Math.round(255 * (l - s * Math.min(l, 1 - l) * clamp(Math.min(k - 3, 9 - k), -1)));
  };
  return `rgb(${channel(0)},${channel(8)},${channel(4)})`;
}

/** Mixes two `rgb(r,g,b)` colours; `share` is the second's. */
export function mix(first, second, share) {
  const [a, b] = [first, second].map((colour) => colour.match(/\d+/g).map(Number));
  return `rgb(${a.map((channel, i) => Math.round(channel + (b[i] - channel) * share))})`;
}

const clamp = (x, low = 0, high = 1) => Math.min(high, Math.max(low, x));
