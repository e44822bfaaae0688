// Brings the art that the upscaler learns from into a few plain files.
//
//   node art/upscaler-art.mjs <output folder>
//
// Writes sprites-train.bin and sprites-held-out.bin (RGBA pictures one after the other), sprites-*.json ([{width, height,
// offset}]), photos/*.exr and fonts/*.woff. The same packages give the same files.

import { createHash } from 'node:crypto';
import { closeSync, copyFileSync, mkdirSync, openSync, readdirSync, readFileSync, writeFileSync, writeSync } from 'node:fs';
import { createRequire } from 'node:module';
import { basename, dirname } from 'node:path';
import sharp from 'sharp';
import { randomFrom } from './random.mjs';

/** How many of each set; the sets are larger. */
const ICON_SETS = {
  'fluent-emoji-flat': 1200,
  'fluent-emoji': 900,
  noto: 1600,
  fxemoji: 500,
  'flat-color-icons': 300,
  meteocons: 200,
};
const GLOSSY_PICTURES = 900;
const FONTS = { roboto: [400, 700, 900], lora: [400, 700], caveat: [400, 700], bitter: [400, 800], pacifico: [400] };
const SMALLEST = 40;
const LARGEST = 384;
const NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"';
/** One in so many pictures is kept for evaluation. */
const HELD_OUT = 25;

const require = createRequire(import.meta.url);
const output = process.argv[2];
mkdirSync(`${output}/photos`, { recursive: true });
mkdirSync(`${output}/fonts`, { recursive: true });

/** A number that depends on the name alone, so that a new version of a set moves nothing else. */
const hash = (name) => createHash('sha256').update(name).digest().readUInt32BE();

/** `count` of the names, always the same ones. Skin tones repeat a drawing: one is enough. */
function choose(names, count) {
  const distinct = names.filter((name) => !/skin-tone|-(light|medium|dark)$|1f3f[b-f]/.test(name));
  return distinct.toSorted((a, b) => hash(a) - hash(b)).slice(0, count);
}

class Pack {
  constructor(name) {
    this.name = name;
    this.file = openSync(`${output}/${name}.bin`, 'w');
    this.index = [];
    this.offset = 0;
  }
  /** @param picture what sharp can read */
  async add(picture) {
    const { data, info } = await sharp(picture).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
    writeSync(this.file, data);
    this.index.push({ width: info.width, height: info.height, offset: this.offset });
    this.offset += data.length;
  }
  close() {
    closeSync(this.file);
    writeFileSync(`${output}/${this.name}.json`, JSON.stringify(this.index));
    console.log(`${this.name}: ${this.index.length} sprites, ${(this.offset / 1e6).toFixed(0)} MB`);
  }
}
const train = new Pack('sprites-train');
const heldOut = new Pack('sprites-held-out');
const packFor = (name) => (hash(`held out ${name}`) % HELD_OUT === 0 ? heldOut : train);

for (const [prefix, count] of Object.entries(ICON_SETS)) {
  const set = require(`@iconify-json/${prefix}/icons.json`);
  for (const name of choose(Object.keys(set.icons), count)) {
    const { body, width = set.width ?? 16, height = set.height ?? 16 } = set.icons[name];
    const random = randomFrom(hash(`${prefix}:${name}`));
    const side = Math.round(SMALLEST * (LARGEST / SMALLEST) ** random.between(0, 1));
    const svg = `<svg ${NAMESPACES} width="${side}" height="${side}" viewBox="0 0 ${width} ${height}">${body}</svg>`;
    await packFor(`${prefix}:${name}`).add(Buffer.from(svg));
  }
}

const glossy = `${dirname(require.resolve('@lobehub/fluent-emoji-3d/package.json'))}/assets`;
for (const name of choose(readdirSync(glossy), GLOSSY_PICTURES)) {
  await packFor(name).add(`${glossy}/${name}`);
}
train.close();
heldOut.close();

const panoramas = `${dirname(require.resolve('@pmndrs/assets/package.json'))}/hdri`;
for (const name of readdirSync(panoramas).filter((file) => file.endsWith('.exr.js'))) {
  const { default: dataUrl } = await import(`${panoramas}/${name}`);
  writeFileSync(`${output}/photos/${basename(name, '.js')}`, Buffer.from(dataUrl.slice(dataUrl.indexOf(',') + 1), 'base64'));
}
for (const [font, weights] of Object.entries(FONTS)) {
  const folder = `${dirname(require.resolve(`@fontsource/${font}/package.json`))}/files`;
  for (const weight of weights) {
    copyFileSync(`${folder}/${font}-latin-${weight}-normal.woff`, `${output}/fonts/${font}-${weight}.woff`);
  }
}
