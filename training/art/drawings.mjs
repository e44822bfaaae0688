// Renders every drawing of vocabulary.json with the mask of what a colour word repaints.
//
//   node art/drawings.mjs <output folder> <folder of openclipart>
//
// Writes drawings/NAME.webp (with alpha, cut to what is visible) and drawings/NAME-mask.png, and drawings.json:
// [{noun, pose, file, shade}], shade the mean grey level under the mask or null where there is none.

import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import sharp from 'sharp';
import { findPaint } from './paint.mjs';
import { drawingOf, rasterise, renderFile } from './sources.mjs';

const LONGEST = 200; // pixels: what the largest drawing takes of a picture
const [output, openclipart] = process.argv.slice(2);
const vocabulary = JSON.parse(readFileSync(new URL('../vocabulary.json', import.meta.url), 'utf8'));
mkdirSync(`${output}/drawings`, { recursive: true });

const index = [];
async function draw(noun, pose, render) {
  const { data, width, height } = await rasterise(render, LONGEST);
  const file = [noun.name, pose].filter(Boolean).join('-').replaceAll(' ', '_');
  const paint = noun.painted ? findPaint(data) : undefined;
  await sharp(data, { raw: { width, height, channels: 4 } }).webp({ quality: 94, alphaQuality: 100, smartSubsample: true, effort: 3 }).toFile(`${output}/drawings/${file}.webp`);
  if (paint) await sharp(paint.mask, { raw: { width, height, channels: 1 } }).png({ compressionLevel: 9 }).toFile(`${output}/drawings/${file}-mask.png`);
  index.push({ noun: noun.name, pose, file, shade: paint ? Math.round(paint.shade * 1000) / 1000 : null });
}

for (const noun of vocabulary.nouns) {
  await draw(noun, null, noun.emoji ? drawingOf({ label: noun.emoji, hexcode: noun.hexcode }) : renderFile(`${openclipart}/${noun.openclipart}`));
  for (const [pose, file] of Object.entries(noun.poses ?? {})) await draw(noun, pose, renderFile(new URL(`own/${file}`, import.meta.url)));
}
writeFileSync(`${output}/drawings.json`, JSON.stringify(index));
console.log(`${index.length} drawings of ${vocabulary.nouns.length} nouns`);
