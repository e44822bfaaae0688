// Draws every place and plain colour of the vocabulary in a few variants, as 256 × 256 RGB pictures.
//
//   node art/backgrounds.mjs <output folder>
//
// Writes backgrounds.bin and backgrounds.json ({size, variants, names}). Layouts hardly vary on purpose: a small model learns
// what stays in place first. Coordinates are in a 128 × 128 box.

import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Resvg } from '@resvg/resvg-js';
import { hsl } from './colour.mjs';
import { randomFrom } from './random.mjs';

const SIZE = 256;
const VARIANTS = 24;
const random = randomFrom(1);
const { between, chance } = random;
const vocabulary = JSON.parse(readFileSync(new URL('../vocabulary.json', import.meta.url), 'utf8'));

// --- pieces -----------------------------------------------------------------------------------------------------------------

const rect = (x, y, width, height, fill) => `<rect x="${x}" y="${y}" width="${width}" height="${height}" fill="${fill}"/>`;
const ground = (y, fill) => rect(0, y, 128, 128 - y, fill);
const circle = (x, y, r, fill, opacity = 1) => `<circle cx="${x}" cy="${y}" r="${r}" fill="${fill}" opacity="${opacity}"/>`;
const hill = (y, bend, fill) => `<path d="M0 ${y} C40 ${y - bend} 80 ${y + bend} 128 ${y} V128 H0Z" fill="${fill}"/>`;
const times = (count, draw) => Array.from({ length: count }, (_, i) => draw(i)).join('');

function gradient(...stops) {
  const marks = stops.map((colour, i) => `<stop offset="${i / (stops.length - 1)}" stop-color="${colour}"/>`).join('');
  return `<defs><linearGradient id="sky" x1="0" y1="0" x2="0" y2="1">${marks}</linearGradient></defs>${ground(0, 'url(#sky)')}`;
}

const daySky = () => gradient(hsl(between(203, 212), 0.8, between(0.66, 0.74)), hsl(203, 0.8, 0.88));
const nightSky = () => gradient(hsl(between(228, 238), 0.6, 0.12), hsl(230, 0.5, 0.26)) + times(14, () => star(84));
const star = (lowest) => circle(between(0, 128), between(0, lowest), between(0.6, 1.2), 'white', 0.9);
const cloud = (x, y, s) =>
  `<g fill="white" opacity=".92"><ellipse cx="${x}" cy="${y}" rx="${13 * s}" ry="${5 * s}"/>` +
  `${circle(x - 5 * s, y - 3 * s, 5.5 * s, 'white')}${circle(x + 3 * s, y - 4 * s, 7 * s, 'white')}</g>`;
const clouds = () => cloud(between(18, 32), between(16, 24), 1.2) + cloud(between(94, 110), between(12, 22), 1);
const waves = (y) =>
  `<path d="M-8 ${y} ${'q8 -5 16 0 t16 0 '.repeat(5)}" stroke="white" stroke-width="1.6" fill="none" opacity=".6"/>`;
const shore = (y, fill) => `<path d="M0 ${y} q16 -5 32 0 t32 0 t32 0 t32 0 V128 H0Z" fill="${fill}"/>`;
const fir = (x, y, s, fill) =>
  rect(x - 1.8 * s, y - 5 * s, 3.6 * s, 7 * s, '#6b4a2b') +
  `<path d="M${x} ${y - 34 * s} l${8 * s} ${14 * s} h${-4 * s} l${7 * s} ${15 * s} h${-22 * s} l${7 * s} ${-15 * s} h${-4 * s}Z" fill="${fill}"/>`;
const peak = (x, base, height, fill) =>
  `<path d="M${x - height * 0.8} ${base} L${x} ${base - height} L${x + height * 0.8} ${base}Z" fill="${fill}"/>` +
  `<path d="M${x - height * 0.2} ${base - height * 0.75} L${x} ${base - height} L${x + height * 0.2} ${base - height * 0.75} l-5 -2 l-5 5 l-5 -5Z" fill="white"/>`;
const pyramid = (x, base, height) =>
  `<path d="M${x} ${base - height} L${x + height * 0.9} ${base} H${x - height * 0.9}Z" fill="${hsl(40, 0.62, 0.64)}"/>` +
  `<path d="M${x} ${base - height} L${x + height * 0.9} ${base} H${x + height * 0.15}Z" fill="${hsl(35, 0.5, 0.5)}"/>`;

function house(x, base, width, height) {
  const windows = times(Math.floor(height / 12) - 1, (row) =>
    times(2, (column) => rect(x + 4 + column * (width - 12), base - height + 6 + row * 12, 4, 6, '#e4f0fa')),
  );
  return rect(x, base - height, width, height, hsl(between(212, 224), 0.25, between(0.56, 0.7))) + windows;
}

function umbrellaPine(x, base, height) {
  const crown = hsl(between(125, 135), 0.4, 0.3);
  return (
    rect(x - 1.5, base - height, 3, height, '#6e4b30') +
    `<ellipse cx="${x}" cy="${base - height}" rx="15" ry="6" fill="${crown}"/>` +
    `<ellipse cx="${x}" cy="${base - height - 3.5}" rx="10" ry="5" fill="${crown}"/>`
  );
}

/** The Colosseum: an arcaded drum, its outer ring standing one storey higher on the left. */
function colosseum(x, base) {
  const stone = hsl(between(32, 37), 0.45, between(0.67, 0.73));
  const shadow = hsl(28, 0.42, 0.33);
  const arches = (y, from, to) =>
    times(Math.floor((to - from) / 10), (i) => {
      const left = from + i * 10 + 2;
      return `<path d="M${left} ${y} v-7 q0 -4.5 3.2 -4.5 q3.2 0 3.2 4.5 v7Z" fill="${shadow}"/>`;
    });
  const ledge = (y, from, to) => rect(from, y, to - from, 1.6, hsl(32, 0.4, 0.52));
  return (
    `<g transform="translate(${x} ${base})"><path d="M-51 0 V-52 Q-51 -55 -47 -56 H4 L11 -50 L17 -40 L22 -36 H47 Q51 -36 51 -33 V0Z" fill="${stone}"/>` +
    `${arches(-3, -51, 51)}${ledge(-18, -51, 51)}${arches(-21, -51, 51)}${ledge(-36, -51, 22)}${arches(-39, -51, 10)}</g>`
  );
}

const eiffelTower = (x, base) =>
  `<g transform="translate(${x} ${base})" fill="${hsl(26, 0.32, between(0.34, 0.4))}">` +
  '<path d="M-26 0 Q-7 -32 -2.5 -90 H2.5 Q7 -32 26 0 H14 Q0 -20 -14 0Z"/>' +
  '<rect x="-17" y="-26" width="34" height="4.5"/><rect x="-10" y="-48" width="20" height="4"/><rect x="-1" y="-99" width="2" height="12"/></g>';

// --- places -----------------------------------------------------------------------------------------------------------------

const grass = (lightness = 0.47) => hsl(between(98, 112), 0.52, lightness);

const places = {
  white: () => ground(0, '#ffffff'),
  sky: () => daySky() + clouds() + cloud(between(20, 50), between(100, 112), 1.5) + cloud(between(84, 110), between(88, 100), 1.2),
  meadow: () => daySky() + clouds() + hill(74, 14, grass(0.58)) + hill(84, between(-8, 8), grass()),
  forest: () =>
    gradient(hsl(150, 0.35, 0.72), hsl(110, 0.35, 0.82)) +
    times(6, (i) => fir(4 + i * 24 + between(-3, 3), 84, between(1.7, 2.2), hsl(between(130, 150), 0.42, between(0.26, 0.34)))) +
    hill(80, 3, hsl(105, 0.4, 0.4)),
  beach: () => daySky() + clouds() + ground(62, hsl(between(195, 203), 0.7, 0.5)) + shore(88, 'white') + shore(91, hsl(43, 0.68, 0.79)),
  sea: () => daySky() + clouds() + ground(74, hsl(between(204, 212), 0.72, 0.44)) + waves(84) + waves(99) + waves(114),
  desert: () =>
    gradient(hsl(205, 0.7, 0.72), hsl(42, 0.7, 0.88)) +
    pyramid(between(28, 34), 86, 52) + pyramid(between(96, 102), 86, 62) + hill(85, 4, hsl(38, 0.62, between(0.68, 0.73))),
  mountains: () =>
    daySky() + times(3, (i) => peak(between(12, 18) + i * 48, 88, between(56, 68), hsl(216, 0.2, between(0.46, 0.56)))) + hill(86, 5, grass()),
  city: () =>
    daySky() + times(6, (i) => house(i * 22 - 2, 94, 20, between(46, 76))) + ground(92, '#6b7078') +
    times(5, (i) => rect(4 + i * 26, 110, 14, 3, 'white')),
  night: () => nightSky() + circle(between(98, 108), between(18, 24), 11, '#fff3c4') + hill(90, between(-6, 6), hsl(150, 0.3, 0.18)),
  snow: () =>
    gradient(hsl(207, 0.45, 0.72), hsl(205, 0.45, 0.88)) + fir(between(12, 18), 88, 1.5, hsl(155, 0.3, 0.38)) +
    fir(between(106, 114), 90, 1.8, hsl(155, 0.3, 0.38)) + hill(88, between(-8, 8), '#f6faff') +
    times(12, () => circle(between(0, 128), between(0, 80), 1.6, 'white')),
  room: () =>
    ground(0, hsl(between(38, 48), 0.35, 0.88)) + rect(12, 14, 36, 36, 'white') + rect(15, 17, 14, 30, '#a9d8f5') + rect(31, 17, 14, 30, '#a9d8f5') +
    rect(86, 18, 28, 22, '#a77b4f') + rect(89, 21, 22, 16, hsl(between(100, 200), 0.4, 0.72)) + ground(92, hsl(26, 0.45, between(0.46, 0.52))) + rect(0, 90, 128, 3, '#fff'),
  space: () =>
    gradient(hsl(between(248, 262), 0.55, 0.1), hsl(265, 0.5, 0.18)) + times(22, () => star(128)) +
    circle(between(18, 26), between(20, 28), 10, hsl(between(15, 35), 0.6, 0.55)),
  sunset: () =>
    gradient(hsl(between(262, 278), 0.5, 0.42), hsl(350, 0.75, 0.62), hsl(38, 0.95, 0.62)) +
    circle(between(60, 68), 84, 18, hsl(48, 1, 0.68)) + hill(90, between(-6, 6), hsl(280, 0.35, 0.22)),
  rome: () =>
    daySky() + cloud(between(100, 112), between(14, 20), 1) + umbrellaPine(between(4, 8), 86, 52) + umbrellaPine(between(118, 122), 86, 56) +
    colosseum(between(62, 66), 88) + ground(86, hsl(between(34, 40), 0.42, 0.76)),
  paris: () => daySky() + clouds() + eiffelTower(between(58, 70), 96) + hill(90, between(-4, 4), grass()),
};

/** A plain background: the colour word itself, its lightness varying a little. */
function plain(colour) {
  const [hue, saturation, lightness] = vocabulary.colours[colour];
  return ground(0, hsl(hue, saturation, lightness + (colour === 'black' ? -0.08 : between(-0.03, 0.03))));
}

/** What is drawn when a caption names no place: white or a pale tint. */
const unnamed = () => ground(0, chance(0.4) ? '#ffffff' : hsl(between(0, 360), 0.5, 0.94));

// --- output -----------------------------------------------------------------------------------------------------------------

const drawings = new Map([['unnamed', unnamed]]);
for (const name of Object.keys(vocabulary.places)) drawings.set(name, places[name]);
for (const colour of vocabulary.plain) drawings.set(`plain ${colour}`, () => plain(colour));

const output = process.argv[2];
mkdirSync(output, { recursive: true });
const file = createWriteStream(`${output}/backgrounds.bin`);
for (const draw of drawings.values()) {
  for (let variant = 0; variant < VARIANTS; variant++) {
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${SIZE}" height="${SIZE}" viewBox="0 0 128 128">${draw()}</svg>`;
    file.write(new Resvg(svg).render().pixels.filter((_, i) => i % 4 !== 3));
  }
}
file.end();
writeFileSync(`${output}/backgrounds.json`, JSON.stringify({ size: SIZE, variants: VARIANTS, names: [...drawings.keys()] }));
console.log(`${drawings.size} backgrounds × ${VARIANTS}`);
