// Colour arithmetic for repainting SVG art: hex strings to and from hue (degrees), saturation and lightness (0–1).

/** Parses `#rgb` or `#rrggbb`; returns [hue, saturation, lightness]. */
export function hexToHsl(hex) {
  const digits = hex.length === 4 ? [...hex.slice(1)].map((d) => d + d).join('') : hex.slice(1);
  const [r, g, b] = [0, 2, 4].map((i) => parseInt(digits.slice(i, i + 2), 16) / 255);
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

/**
 * Repaints the fills listed in `paint` with one colour word. The first of them is the body and becomes the colour itself; the
 * others keep their difference in lightness, so that stripes and shadows survive.
 */
export function repaint(svgBody, paint, [hue, saturation, lightness]) {
  const bodyLightness = hexToHsl(paint[0])[2];
  return paint.reduce((svg, fill) => {
    const shade = lightness + (hexToHsl(fill)[2] - bodyLightness) * 0.6;
    return svg.replaceAll(fill, hsl(hue, saturation, Math.min(0.97, Math.max(0.08, shade))));
  }, svgBody);
}

const clamp = (x, low = 0, high = 1) => Math.min(high, Math.max(low, x));
