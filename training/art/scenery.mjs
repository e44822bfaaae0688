// The pieces that backgrounds are made of, as SVG in a 128 × 128 box, coloured by the light of a time of day.

import { hsl, mix } from './colour.mjs';

/** What the light of a time does: the sky from top to horizon, and a colour that everything else is mixed with. */
const LIGHTS = {
  day: { sky: [[207, 0.8, 0.68], [203, 0.8, 0.88]], clouds: [0, 0, 1], tint: [0, 0, 0], strength: 0, dim: 1 },
  sunset: { sky: [[268, 0.45, 0.42], [345, 0.7, 0.62], [32, 0.95, 0.64]], clouds: [345, 0.75, 0.78], tint: [275, 0.5, 0.3], strength: 0.38, dim: 0.92 },
  night: { sky: [[232, 0.6, 0.11], [228, 0.5, 0.27]], clouds: [228, 0.3, 0.4], tint: [232, 0.6, 0.13], strength: 0.62, dim: 0.85 },
  dawn: { sky: [[215, 0.6, 0.74], [325, 0.55, 0.84], [44, 0.9, 0.82]], clouds: [335, 0.7, 0.92], tint: [330, 0.6, 0.8], strength: 0.24, dim: 1 },
}; // prettier-ignore

/** Drawing functions for one picture; `random` gives the little that varies. */
export function scenery(random, time) {
  const { between, pick } = random;
  const light = LIGHTS[time];
  /** A colour in this light. */
  const paint = (hue, saturation, lightness) => mix(hsl(hue, saturation, lightness * light.dim), hsl(...light.tint), light.strength);
  const isDark = time === 'night';

  const times = (count, draw) => Array.from({ length: count }, (_, i) => draw(i)).join('');
  const rect = (x, y, width, height, fill) => `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${fill}"/>`;
  const ground = (y, fill) => rect(0, y, 128, 128 - y, fill);
  const circle = (x, y, r, fill, opacity = 1) => `<circle cx="${x}" cy="${y}" r="${r}" fill="${fill}" opacity="${opacity}"/>`;
  const ellipse = (x, y, rx, ry, fill, opacity = 1) => `<ellipse cx="${x}" cy="${y}" rx="${rx}" ry="${ry}" fill="${fill}" opacity="${opacity}"/>`;
  const path = (d, fill, more = '') => `<path d="${d}" fill="${fill}" ${more}/>`;
  const line = (d, stroke, width, opacity = 1) => `<path d="${d}" stroke="${stroke}" stroke-width="${width}" fill="none" opacity="${opacity}" stroke-linecap="round"/>`;
  const hill = (y, bend, fill) => path(`M0 ${y} C40 ${y - bend} 80 ${y + bend} 128 ${y} V128 H0Z`, fill);

  function gradient(...colours) {
    const marks = colours.map((colour, i) => `<stop offset="${i / (colours.length - 1)}" stop-color="${colour}"/>`).join('');
    return `<defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="0.75">${marks}</linearGradient></defs>${ground(0, 'url(#sky)')}`;
  }
  const star = (lowest) => circle(between(0, 128), between(0, lowest), between(0.5, 1.1), 'white', 0.9);
  const cloud = (x, y, s) => {
    const fill = hsl(...light.clouds);
    return (
      `<g opacity=".92">${ellipse(x, y, 13 * s, 5 * s, fill)}${circle(x - 5 * s, y - 3 * s, 5.5 * s, fill)}${circle(x + 3 * s, y - 4 * s, 7 * s, fill)}</g>`
    );
  };
  const clouds = () => cloud(between(16, 34), between(14, 26), between(0.9, 1.3)) + cloud(between(92, 112), between(12, 24), between(0.8, 1.1));
  /** The sky with what belongs to its time: clouds, a low sun, or the moon and stars. */
  function sky({ sunX = between(24, 104), horizon = 84 } = {}) {
    const colours = light.sky.map(([hue, saturation, lightness]) => hsl(hue + between(-3, 3), saturation, lightness + between(-0.02, 0.02)));
    const lit = {
      day: () => clouds(),
      sunset: () => circle(sunX, horizon - 8, 15, hsl(44, 1, 0.68)) + circle(sunX, horizon - 8, 20, hsl(40, 1, 0.7), 0.3) + clouds(),
      night: () => times(20, () => star(horizon - 6)) + circle(between(98, 110), between(17, 24), 9, '#fff3c4'),
      dawn: () => circle(sunX, horizon, 12, hsl(50, 1, 0.84)) + clouds(),
    };
    return gradient(...colours) + lit[time]();
  }

  const grass = (lightness = 0.47) => paint(between(98, 112), 0.52, lightness);
  const sand = (lightness = 0.78) => paint(43, 0.62, lightness);
  const water = (lightness = 0.48) => paint(between(198, 208), 0.68, lightness);
  const waves = (y) => line(`M-8 ${y} ${'q8 -5 16 0 t16 0 '.repeat(5)}`, paint(205, 0.6, 0.86), 1.5, 0.6);
  const shore = (y, fill) => path(`M0 ${y} q16 -5 32 0 t32 0 t32 0 t32 0 V128 H0Z`, fill);
  const rain = () => times(34, () => {
    const [x, y] = [between(0, 132), between(-4, 124)];
    return line(`M${x} ${y} l-2 7`, paint(210, 0.5, 0.88), 0.9, 0.7);
  }); // prettier-ignore
  const flakes = () => times(26, () => circle(between(0, 128), between(0, 126), between(0.8, 1.7), 'white', 0.95));

  const fir = (x, y, s, fill = paint(150, 0.4, 0.3)) =>
    rect(x - 1.8 * s, y - 5 * s, 3.6 * s, 7 * s, paint(26, 0.4, 0.3)) +
    path(`M${x} ${y - 34 * s} l${8 * s} ${14 * s} h${-4 * s} l${7 * s} ${15 * s} h${-22 * s} l${7 * s} ${-15 * s} h${-4 * s}Z`, fill);
  const roundTree = (x, y, s, fill = grass(0.36)) =>
    rect(x - 1.6 * s, y - 14 * s, 3.2 * s, 15 * s, paint(26, 0.4, 0.32)) + circle(x, y - 21 * s, 10 * s, fill) + circle(x - 6 * s, y - 17 * s, 7 * s, fill) + circle(x + 6 * s, y - 17 * s, 7 * s, fill);
  const palm = (x, y, s, lean = 1) => {
    const top = [x + 8 * s * lean, y - 44 * s];
    const leaf = (dx, dy) => line(`M${top[0]} ${top[1]} q${dx * 0.5 * s} ${(dy - 8) * s} ${dx * s} ${dy * s}`, paint(130, 0.5, 0.34), 3.4 * s);
    return line(`M${x} ${y} Q${x} ${y - 24 * s} ${top[0]} ${top[1]}`, paint(28, 0.42, 0.4), 3 * s) + leaf(-18, 8) + leaf(18, 8) + leaf(-14, -5) + leaf(14, -5) + leaf(-9, 16) + leaf(9, 16);
  };
  const umbrellaPine = (x, base, height) => {
    const crown = paint(between(125, 135), 0.4, 0.3);
    return rect(x - 1.5, base - height, 3, height, paint(26, 0.4, 0.32)) + ellipse(x, base - height, 15, 6, crown) + ellipse(x, base - height - 3.5, 10, 5, crown);
  };
  const bush = (x, y, s, fill = grass(0.34)) => circle(x - 6 * s, y, 6 * s, fill) + circle(x + 6 * s, y, 6 * s, fill) + circle(x, y - 4 * s, 7 * s, fill);
  const flower = (x, y, hue = pick([0, 48, 275, 330])) =>
    line(`M${x} ${y} v-6`, grass(0.34), 1) + times(5, (i) => circle(x + 2.2 * Math.cos(i * 1.257), y - 7 + 2.2 * Math.sin(i * 1.257), 1.7, paint(hue, 0.8, 0.68))) + circle(x, y - 7, 1.4, paint(48, 0.95, 0.6));
  const flowers = (count, from, to) => times(count, () => flower(between(3, 125), between(from, to)));
  const peak = (x, base, height, fill = paint(216, 0.2, between(0.46, 0.56))) =>
    path(`M${x - height * 0.8} ${base} L${x} ${base - height} L${x + height * 0.8} ${base}Z`, fill) +
    path(`M${x - height * 0.2} ${base - height * 0.75} L${x} ${base - height} L${x + height * 0.2} ${base - height * 0.75} l-5 -2 l-5 5 l-5 -5Z`, paint(210, 0.3, 0.97));

  /** A block with windows, lit at night. */
  function tower(x, base, width, height, fill = paint(between(212, 224), 0.25, between(0.56, 0.7))) {
    const glass = () => (isDark ? pick(['#ffe08a', '#ffe08a', hsl(230, 0.3, 0.2)]) : paint(205, 0.55, 0.93));
    const windows = times(Math.floor(height / 12) - 1, (row) => times(2, (column) => rect(x + 4 + column * (width - 12), base - height + 6 + row * 12, 4, 6, glass())));
    return rect(x, base - height, width, height, fill) + windows;
  }
  const cottage = (x, base, s, wall = paint(40, 0.35, 0.88), roof = paint(8, 0.55, 0.48)) =>
    rect(x - 12 * s, base - 16 * s, 24 * s, 16 * s, wall) + path(`M${x - 15 * s} ${base - 16 * s} L${x} ${base - 28 * s} L${x + 15 * s} ${base - 16 * s}Z`, roof) +
    rect(x - 3 * s, base - 9 * s, 6 * s, 9 * s, paint(26, 0.45, 0.34)) + rect(x + 5 * s, base - 12 * s, 4.5 * s, 4.5 * s, isDark ? '#ffe08a' : paint(205, 0.6, 0.85));

  return {
    random, time, isDark, paint, times, rect, ground, circle, ellipse, path, line, hill, gradient, star, cloud, clouds, sky, grass, sand, water, waves,
    shore, rain, flakes, fir, roundTree, palm, umbrellaPine, bush, flowers, peak, tower, cottage, ...landmarks({ paint, rect, circle, path, line, times, between, isDark }),
  }; // prettier-ignore
}

/** What tells a country. */
function landmarks({ paint, rect, circle, path, line, times, between, isDark }) {
  const pyramid = (x, base, height) =>
    path(`M${x} ${base - height} L${x + height * 0.9} ${base} H${x - height * 0.9}Z`, paint(40, 0.62, 0.64)) +
    path(`M${x} ${base - height} L${x + height * 0.9} ${base} H${x + height * 0.15}Z`, paint(35, 0.5, 0.5));

  /** The Colosseum: an arcaded drum, its outer ring standing one storey higher on the left. */
  function colosseum(x, base) {
    const stone = paint(between(32, 37), 0.45, between(0.67, 0.73));
    const shadow = isDark ? '#ffcf7a' : paint(28, 0.42, 0.33);
    const arches = (y, from, to) =>
      times(Math.floor((to - from) / 10), (i) => path(`M${from + i * 10 + 2} ${y} v-7 q0 -4.5 3.2 -4.5 q3.2 0 3.2 4.5 v7Z`, shadow));
    const ledge = (y, from, to) => rect(from, y, to - from, 1.6, paint(32, 0.4, 0.52));
    return (
      `<g transform="translate(${x} ${base})">${path('M-51 0 V-52 Q-51 -55 -47 -56 H4 L11 -50 L17 -40 L22 -36 H47 Q51 -36 51 -33 V0Z', stone)}` +
      `${arches(-3, -51, 51)}${ledge(-18, -51, 51)}${arches(-21, -51, 51)}${ledge(-36, -51, 22)}${arches(-39, -51, 10)}</g>`
    );
  }
  /** A temple's front: steps, columns and a gable. */
  function temple(x, base, s) {
    const stone = paint(42, 0.3, 0.88);
    const shade = paint(38, 0.25, 0.68);
    return (
      `<g transform="translate(${x} ${base}) scale(${s})">${rect(-24, -4, 48, 4, shade)}${rect(-22, -8, 44, 4, stone)}` +
      `${rect(-20, -34, 40, 26, shade)}${times(5, (i) => rect(-20 + i * 9, -34, 4, 26, stone))}${rect(-23, -38, 46, 4, stone)}${path('M-24 -38 L0 -51 L24 -38Z', stone)}${path('M-15 -40 L0 -48 L15 -40Z', shade)}</g>`
    );
  }
  const eiffelTower = (x, base) =>
    `<g transform="translate(${x} ${base})" fill="${isDark ? '#f4b955' : paint(26, 0.32, between(0.34, 0.4))}">` +
    '<path d="M-26 0 Q-7 -32 -2.5 -90 H2.5 Q7 -32 26 0 H14 Q0 -20 -14 0Z"/>' +
    '<rect x="-17" y="-26" width="34" height="4.5"/><rect x="-10" y="-48" width="20" height="4"/><rect x="-1" y="-99" width="2" height="12"/></g>';
  const fuji = (x, base) =>
    path(`M${x - 62} ${base} Q${x - 22} ${base - 14} ${x - 9} ${base - 58} H${x + 9} Q${x + 22} ${base - 14} ${x + 62} ${base}Z`, paint(222, 0.35, 0.52)) +
    path(`M${x - 16} ${base - 38} Q${x - 11} ${base - 48} ${x - 9} ${base - 58} H${x + 9} Q${x + 11} ${base - 48} ${x + 16} ${base - 38} l-6 -4 l-5 6 l-5 -6 l-5 6 l-5 -6Z`, paint(210, 0.3, 0.98));
  const blossomBranch = (x, y, side) =>
    line(`M${x} ${y} q${side * 18} 3 ${side * 36} 16`, paint(20, 0.35, 0.3), 2.4) +
    times(16, () => circle(x + side * between(4, 40), y + between(-3, 22), between(2, 3.6), paint(340, 0.8, between(0.8, 0.9))));
  const torii = (x, base, s) =>
    `<g transform="translate(${x} ${base}) scale(${s})" fill="${paint(8, 0.75, 0.5)}"><rect x="-11" y="-26" width="3.4" height="26"/><rect x="7.6" y="-26" width="3.4" height="26"/><rect x="-14" y="-21" width="28" height="2.6"/><path d="M-18 -30 Q0 -26 18 -30 V-26 Q0 -22.500 -18 -26Z"/></g>`;
  /** The Elizabeth Tower beside the Houses of Parliament. */
  function bigBen(x, base) {
    const stone = paint(38, 0.42, 0.62);
    const dark = paint(34, 0.35, 0.45);
    return (
      `<g transform="translate(${x} ${base}) scale(.8)">${rect(-54, -28, 108, 28, paint(38, 0.35, 0.7))}${times(13, (i) => rect(-52 + i * 8, -24, 3, 18, dark))}${times(14, (i) => path(`M${-54 + i * 8} -28 l2 -5 l2 5Z`, dark))}` +
      `${rect(-9, -84, 18, 84, stone)}${rect(-10.5, -70, 21, 19, dark)}${circle(0, -60.5, 7, isDark ? '#fff3c4' : '#fbfbf2')}${line('M0 -60.500 v-5 M0 -60.500 l3.500 2', '#333', 1)}` +
      `${path('M-10 -84 L0 -104 L10 -84Z', paint(150, 0.15, 0.35))}${rect(-6, -46, 2, 42, dark)}${rect(-1, -46, 2, 42, dark)}${rect(4, -46, 2, 42, dark)}</g>`
    );
  }
  function castle(x, base, s) {
    const stone = paint(225, 0.1, 0.62);
    const dark = paint(225, 0.12, 0.48);
    const turret = (left, height) => rect(left, -height, 14, height, stone) + path(`M${left - 2} ${-height} l9 -16 l9 16Z`, paint(350, 0.55, 0.48)) + rect(left + 5, -height + 8, 4, 7, isDark ? '#ffe08a' : dark);
    return (
      `<g transform="translate(${x} ${base}) scale(${s})">${rect(-34, -30, 68, 30, dark)}${times(7, (i) => rect(-34 + i * 10, -35, 6, 6, dark))}${turret(-44, 46)}${turret(30, 46)}${turret(-7, 60)}${path('M-7 0 v-14 q7 -8 14 0 v14Z', paint(26, 0.45, 0.28))}</g>`
    );
  }
  const volcano = (x, base) =>
    path(`M${x - 58} ${base} Q${x - 24} ${base - 18} ${x - 12} ${base - 56} H${x + 12} Q${x + 24} ${base - 18} ${x + 58} ${base}Z`, paint(18, 0.25, 0.34)) +
    path(`M${x - 12} ${base - 56} h24 l4 14 q-4 8 -8 -2 q-3 14 -8 2 q-4 12 -8 0 q-4 6 -8 0Z`, '#ff7a2f') +
    circle(x - 6, base - 68, 8, paint(230, 0.08, 0.6), 0.85) + circle(x + 7, base - 76, 10, paint(230, 0.08, 0.66), 0.85) + circle(x - 4, base - 86, 7, paint(230, 0.08, 0.72), 0.85);
  return { pyramid, colosseum, temple, eiffelTower, fuji, blossomBranch, torii, bigBen, castle, volcano };
}
