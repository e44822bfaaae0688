// Draws every place of the vocabulary at every time of day in a few variants, as 256 × 256 pictures.
//
//   node art/backgrounds.mjs <output folder>
//
// Writes backgrounds/NAME/VARIANT.webp and backgrounds.json ({name: variants}). NAME is a place, and for places out of doors
// PLACE/TIME. Layouts hardly vary on purpose: a small model learns what stays in place first.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { Resvg } from '@resvg/resvg-js';
import sharp from 'sharp';
import { hsl } from './colour.mjs';
import { randomFrom } from './random.mjs';
import { scenery } from './scenery.mjs';

const SIZE = 256;
const VARIANTS = { plain: 8, timed: 10, day: 16 };
const vocabulary = JSON.parse(readFileSync(new URL('../vocabulary.json', import.meta.url), 'utf8'));

const places = {
  white: (s) => s.ground(0, '#ffffff'),
  sky: (s) => s.sky({ horizon: 128 }) + s.cloud(s.random.between(20, 50), s.random.between(100, 112), 1.5) + s.cloud(s.random.between(84, 110), s.random.between(88, 100), 1.2),
  meadow: (s) => s.sky() + s.hill(74, 14, s.grass(0.58)) + s.hill(84, s.random.between(-8, 8), s.grass()),
  garden: (s) => s.sky() + s.times(9, (i) => s.rect(i * 15 + 2, 62, 9, 24, s.paint(30, 0.2, 0.93)) + s.path(`M${i * 15 + 2} 62 l4.5 -5 l4.5 5Z`, s.paint(30, 0.2, 0.93))) + s.rect(0, 70, 128, 3, s.paint(30, 0.2, 0.9)) +
    s.hill(84, 4, s.grass(0.5)) + s.bush(8, 88, 1) + s.bush(120, 88, 1) + s.flowers(24, 94, 127),
  park: (s) => s.sky() + s.hill(78, 6, s.grass(0.54)) + s.roundTree(s.random.between(14, 20), 86, 1.7) + s.roundTree(s.random.between(106, 114), 84, 1.5) +
    s.path('M50 128 Q60 100 66 80 h6 Q76 104 92 128Z', s.paint(38, 0.4, 0.78)) + `<g fill="${s.paint(24, 0.5, 0.4)}"><rect x="22" y="84" width="24" height="3"/><rect x="22" y="90" width="24" height="3"/><rect x="24" y="84" width="2.500" height="15"/><rect x="42" y="84" width="2.500" height="15"/></g>`,
  farm: (s) => s.sky() + s.hill(78, 8, s.paint(52, 0.6, 0.62)) + s.path('M74 84 V58 L80 50 H106 L112 58 V84Z', s.paint(4, 0.65, 0.45)) + s.path('M72 58 L80 47 H106 L114 58Z', s.paint(215, 0.12, 0.4)) + s.rect(87, 68, 12, 16, s.paint(30, 0.25, 0.92)) +
    s.line('M87 68 l12 16 M99 68 l-12 16', s.paint(4, 0.65, 0.45), 1.5) + s.rect(114, 52, 10, 32, s.paint(210, 0.1, 0.75)) + s.circle(119, 52, 5, s.paint(210, 0.1, 0.66)) + s.hill(84, 3, s.grass(0.48)),
  forest: (s) => s.gradient(s.paint(150, 0.35, 0.74), s.paint(110, 0.35, 0.84)) + (s.isDark ? s.times(10, () => s.star(40)) : '') +
    s.times(6, (i) => s.fir(4 + i * 24 + s.random.between(-3, 3), 84, s.random.between(1.7, 2.2), s.paint(s.random.between(130, 150), 0.42, s.random.between(0.26, 0.34)))) + s.hill(80, 3, s.paint(105, 0.4, 0.4)),
  jungle: (s) => s.gradient(s.paint(95, 0.5, 0.8), s.paint(110, 0.45, 0.62)) + s.times(5, (i) => s.bush(i * 30 + 4, 74, 2.2, s.paint(125, 0.5, 0.34))) + s.palm(16, 88, 1.5, 0.6) + s.palm(110, 88, 1.6, -0.6) + s.hill(84, 3, s.paint(100, 0.5, 0.34)) +
    s.line('M34 0 q4 22 -2 34 M92 0 q-6 18 2 30', s.paint(120, 0.5, 0.3), 2) + s.bush(2, 104, 1.6, s.paint(135, 0.55, 0.28)) + s.bush(126, 104, 1.6, s.paint(135, 0.55, 0.28)),
  beach: (s) => s.sky({ horizon: 62 }) + s.ground(62, s.water()) + s.shore(88, s.paint(200, 0.3, 0.97)) + s.shore(91, s.sand()),
  sea: (s) => s.sky({ horizon: 74 }) + s.ground(74, s.water(0.44)) + s.waves(84) + s.waves(99) + s.waves(114),
  underwater: (s) => s.gradient(hsl(192, 0.8, 0.62), hsl(206, 0.8, 0.4)) + s.times(4, (i) => s.path(`M${14 + i * 30} 0 h12 l-10 128 h-20Z`, 'white', 'opacity=".08"')) + s.hill(108, 5, hsl(42, 0.5, 0.68)) +
    s.times(3, (i) => s.line(`M${6 + i * 7} 112 q-6 -12 0 -22 t0 -20`, hsl(140, 0.5, 0.35), 3)) + s.times(3, (i) => s.line(`M${108 + i * 7} 112 q6 -12 0 -22 t0 -18`, hsl(140, 0.5, 0.35), 3)) + s.times(9, () => s.circle(s.random.between(4, 124), s.random.between(8, 100), s.random.between(1.2, 3), 'white', 0.5)),
  lake: (s) => s.sky({ horizon: 66 }) + s.peak(28, 70, 34) + s.peak(98, 70, 40) + s.times(7, (i) => s.fir(i * 20 + 3, 76, 0.7)) + s.ground(74, s.water(0.54)) + s.waves(88) + s.waves(104) + s.path('M0 116 Q30 108 64 120 T128 116 V128 H0Z', s.grass(0.45)),
  island: (s) => s.sky({ horizon: 70 }) + s.ground(70, s.water(0.52)) + s.waves(78) + s.path('M-6 128 Q14 86 64 86 Q114 86 134 128Z', s.sand(0.8)) + s.palm(18, 100, 1.5, 0.5) + s.palm(114, 102, 1.2, -0.5),
  desert: (s) => s.sky() + s.hill(72, 18, s.paint(36, 0.6, 0.62)) + s.hill(82, -12, s.paint(40, 0.66, 0.7)) + `<g fill="${s.paint(125, 0.4, 0.36)}"><rect x="112" y="58" width="5" height="28" rx="2.500"/><rect x="106" y="66" width="3.500" height="10" rx="1.700"/><rect x="107" y="73" width="7" height="3.500"/></g>`,
  egypt: (s) => s.sky() + s.pyramid(s.random.between(28, 34), 86, 52) + s.pyramid(s.random.between(96, 102), 86, 62) + s.hill(85, 4, s.paint(38, 0.62, s.random.between(0.68, 0.73))),
  mountains: (s) => s.sky() + s.times(3, (i) => s.peak(s.random.between(12, 18) + i * 48, 88, s.random.between(56, 68))) + s.hill(86, 5, s.grass()),
  volcano: (s) => s.sky() + s.volcano(s.random.between(60, 68), 88) + s.hill(86, 4, s.paint(24, 0.2, 0.4)),
  city: (s) => s.sky() + s.times(6, (i) => s.tower(i * 22 - 2, 94, 20, s.random.between(46, 76))) + s.ground(92, s.paint(218, 0.06, 0.45)) + s.times(5, (i) => s.rect(4 + i * 26, 110, 14, 3, s.paint(0, 0, 0.95))),
  road: (s) => s.sky() + s.hill(76, 8, s.grass(0.52)) + s.path('M54 78 h20 L128 128 H0Z', s.paint(220, 0.05, 0.42)) + s.times(3, (i) => s.path(`M${63.4 - i * 0.5} ${82 + i * 15} h${1.6 + i} l${0.8} ${8 + i * 2} h${-3.2 - i}Z`, s.paint(0, 0, 0.96))),
  snow: (s) => s.gradient(s.paint(207, 0.45, 0.72), s.paint(205, 0.45, 0.88)) + s.fir(s.random.between(12, 18), 88, 1.5, s.paint(155, 0.3, 0.38)) + s.fir(s.random.between(106, 114), 90, 1.8, s.paint(155, 0.3, 0.38)) + s.hill(88, s.random.between(-8, 8), s.paint(210, 0.6, 0.97)) + s.flakes(),
  arctic: (s) => s.sky({ horizon: 70 }) + s.path('M0 72 L14 48 L26 56 L38 40 L54 72Z', s.paint(200, 0.5, 0.9)) + s.path('M76 72 L92 44 L104 54 L116 46 L128 72Z', s.paint(200, 0.5, 0.86)) + s.ground(72, s.paint(200, 0.6, 0.5)) + s.path('M-4 128 L8 90 H58 L70 84 H120 L132 128Z', s.paint(200, 0.5, 0.95)),
  rain: (s) => s.gradient(s.paint(215, 0.14, 0.52), s.paint(210, 0.14, 0.72)) + s.times(4, (i) => s.ellipse(12 + i * 36, 12, 26, 11, s.paint(218, 0.12, 0.42))) + s.hill(86, 5, s.paint(115, 0.25, 0.4)) + s.ellipse(30, 112, 20, 4, s.paint(210, 0.3, 0.62)) + s.ellipse(98, 120, 18, 3.5, s.paint(210, 0.3, 0.62)) + s.rain(),
  autumn: (s) => s.sky() + s.roundTree(s.random.between(14, 20), 86, 1.9, s.paint(22, 0.85, 0.52)) + s.roundTree(s.random.between(60, 70), 82, 1.4, s.paint(46, 0.9, 0.55)) + s.roundTree(s.random.between(106, 114), 86, 1.9, s.paint(8, 0.7, 0.5)) + s.hill(84, 4, s.paint(42, 0.5, 0.5)) +
    s.times(26, () => s.ellipse(s.random.between(0, 128), s.random.between(90, 128), 2.4, 1.4, s.paint(s.random.between(5, 45), 0.85, 0.5))),
  room: (s) => s.ground(0, hsl(s.random.between(38, 48), 0.35, 0.88)) + s.rect(12, 14, 36, 36, 'white') + s.rect(15, 17, 14, 30, '#a9d8f5') + s.rect(31, 17, 14, 30, '#a9d8f5') + s.rect(86, 18, 28, 22, '#a77b4f') + s.rect(89, 21, 22, 16, hsl(s.random.between(100, 200), 0.4, 0.72)) +
    s.ground(92, hsl(26, 0.45, s.random.between(0.46, 0.52))) + s.rect(0, 90, 128, 3, '#fff'),
  kitchen: (s) => s.ground(0, hsl(s.random.between(165, 185), 0.3, 0.88)) + s.times(16, (i) => s.rect(i * 8, 52, 7.4, 7.4, 'white') + s.rect(i * 8, 60, 7.4, 7.4, 'white') + s.rect(i * 8, 68, 7.4, 7.4, 'white')) + s.times(4, (i) => s.rect(i * 32 + 1, 4, 30, 34, hsl(28, 0.4, 0.6)) + s.circle(i * 32 + 27, 32, 1.3, '#eee')) +
    s.rect(0, 80, 128, 5, hsl(210, 0.08, 0.42)) + s.ground(85, hsl(28, 0.42, s.random.between(0.6, 0.66))) + s.times(3, (i) => s.rect(42.5 * i + 1, 89, 40, 39, hsl(28, 0.4, 0.55))),
  table: (s) => s.ground(0, hsl(s.random.between(25, 45), 0.4, 0.9)) + s.ground(82, hsl(26, 0.48, s.random.between(0.5, 0.56))) + s.rect(0, 82, 128, 4, hsl(26, 0.48, 0.64)) + s.times(3, (i) => s.line(`M0 ${96 + i * 12} H128`, hsl(24, 0.45, 0.42), 0.7, 0.6)),
  bedroom: (s) => s.ground(0, hsl(s.random.between(225, 265), 0.35, 0.86)) + s.rect(84, 12, 32, 32, 'white') + s.rect(87, 15, 26, 26, '#28346b') + s.circle(104, 23, 4, '#fff3c4') + s.ground(92, hsl(265, 0.2, 0.66)) + s.rect(2, 54, 5, 48, hsl(24, 0.45, 0.38)) + s.rect(2, 78, 62, 20, hsl(215, 0.55, 0.62)) + s.rect(7, 70, 18, 11, 'white') + s.rect(60, 74, 5, 28, hsl(24, 0.45, 0.38)),
  stage: (s) => s.ground(0, hsl(345, 0.5, 0.16)) + s.path('M54 0 h20 L112 104 H16Z', '#fff6d0', 'opacity=".35"') + s.ground(94, hsl(28, 0.45, 0.42)) + s.ellipse(64, 108, 46, 9, '#fff6d0', 0.45) + s.times(4, (i) => s.path(`M${i * 7} 0 h7 q3 50 -4 94 h-7Z`, hsl(352, 0.7, i % 2 ? 0.36 : 0.42)) + s.path(`M${121 - i * 7} 0 h7 q-3 50 4 94 h-7Z`, hsl(352, 0.7, i % 2 ? 0.36 : 0.42))) + s.rect(0, 0, 128, 10, hsl(352, 0.7, 0.36)),
  space: (s) => s.gradient(hsl(s.random.between(248, 262), 0.55, 0.1), hsl(265, 0.5, 0.18)) + s.times(26, () => s.star(128)) + s.circle(s.random.between(18, 26), s.random.between(20, 28), 10, hsl(s.random.between(15, 35), 0.6, 0.55)),
  moon: (s) => s.gradient(hsl(235, 0.4, 0.06), hsl(240, 0.35, 0.14)) + s.times(26, () => s.star(84)) + s.circle(104, 26, 13, hsl(208, 0.7, 0.5)) + s.path('M96 20 q8 -6 13 0 q-2 8 -9 7Z M103 31 q8 -3 10 2 q-4 6 -8 4Z', hsl(125, 0.45, 0.45)) + s.hill(86, s.random.between(-5, 5), hsl(230, 0.04, 0.68)) + s.times(6, () => s.ellipse(s.random.between(6, 122), s.random.between(96, 126), s.random.between(5, 9), 2.6, hsl(230, 0.05, 0.55))),
  rome: (s) => s.sky() + s.umbrellaPine(s.random.between(4, 8), 86, 52) + s.umbrellaPine(s.random.between(118, 122), 86, 56) + s.colosseum(s.random.between(62, 66), 88) + s.ground(86, s.paint(s.random.between(34, 40), 0.42, 0.76)),
  greece: (s) => s.sky() + s.hill(80, 10, s.paint(75, 0.3, 0.56)) + s.temple(s.random.between(60, 68), 80, 1.5) + s.hill(88, 3, s.paint(42, 0.4, 0.72)),
  paris: (s) => s.sky() + s.eiffelTower(s.random.between(58, 70), 96) + s.hill(90, s.random.between(-4, 4), s.grass()),
  japan: (s) => s.sky({ sunX: 24 }) + s.fuji(s.random.between(60, 68), 84) + s.hill(82, 3, s.grass(0.48)) + s.torii(s.random.between(106, 112), 92, 0.9) + s.blossomBranch(0, 6, 1) + s.blossomBranch(128, 8, -1),
  london: (s) => s.sky() + s.bigBen(s.random.between(60, 68), 88) + s.ground(86, s.paint(215, 0.08, 0.55)) + s.rect(0, 86, 128, 3, s.paint(215, 0.1, 0.7)),
  castle: (s) => s.sky() + s.hill(76, 10, s.grass(0.56)) + s.castle(s.random.between(60, 68), 82, 1.15) + s.hill(84, 3, s.grass(0.46)),
}; // prettier-ignore

/** A plain background: the colour word itself, its lightness varying a little. */
function plain(s, colour) {
  const [hue, saturation, lightness] = vocabulary.colours[colour];
  return s.ground(0, hsl(hue, saturation, lightness + (colour === 'black' ? -0.08 : s.random.between(-0.03, 0.03))));
}
/** What is drawn when a caption names no place: white or a pale tint. */
const unnamed = (s) => s.ground(0, s.random.chance(0.4) ? '#ffffff' : hsl(s.random.between(0, 360), 0.5, 0.94));
/** What is drawn instead behind white things, which could not be seen before that. */
const behindWhite = (s) => s.ground(0, hsl(s.random.between(200, 216), 0.5, s.random.between(0.66, 0.72)));
/** A time without a place: an open field. */
const field = (s) => s.sky() + s.hill(88, s.random.between(-6, 6), s.paint(110, 0.4, 0.42));

const backgrounds = new Map(); // name → {draw, time, variants}
const add = (name, draw, time, variants) => backgrounds.set(name, { draw, time, variants });
add('unnamed', unnamed, 'day', 24);
for (const colour of vocabulary.plain) add(`plain ${colour}`, (s) => plain(s, colour), 'day', VARIANTS.plain);
for (const time of Object.keys(vocabulary.times)) add(`unnamed/${time}`, field, time, VARIANTS.timed);
for (const place of Object.keys(vocabulary.places)) {
  if (!vocabulary.outdoors.includes(place)) add(place, places[place], 'day', place === 'white' ? 1 : VARIANTS.day);
  else for (const time of Object.keys(vocabulary.times)) add(`${place}/${time}`, places[place], time, time === 'day' ? VARIANTS.day : VARIANTS.timed);
}
add('unnamed behind white', behindWhite, 'day', VARIANTS.plain);

const output = process.argv[2];
let seed = 0;
for (const [name, { draw, time, variants }] of backgrounds) {
  mkdirSync(`${output}/backgrounds/${name}`, { recursive: true });
  for (let variant = 0; variant < variants; variant++) {
    const body = draw(scenery(randomFrom(++seed), time));
    const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${SIZE}" height="${SIZE}" viewBox="0 0 128 128">${body}</svg>`;
    const pixels = Buffer.from(new Resvg(svg).render().pixels);
    const picture = sharp(pixels, { raw: { width: SIZE, height: SIZE, channels: 4 } }).removeAlpha();
    await picture.webp({ quality: 95, smartSubsample: true }).toFile(`${output}/backgrounds/${name}/${variant}.webp`);
  }
}
writeFileSync(`${output}/backgrounds.json`, JSON.stringify(Object.fromEntries([...backgrounds].map(([name, { variants }]) => [name, variants]))));
console.log(`${backgrounds.size} backgrounds, ${seed} pictures`);
