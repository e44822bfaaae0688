// Renders every noun, in its own colours and in each colour word it may take, as a square RGBA sprite.
//
//   node art/sprites.mjs <output folder>
//
// Writes sprites.bin (SIZE × SIZE × 4 bytes a sprite) and sprites.json ([{noun, colour}], colour null for the natural one).

import { createWriteStream, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { Resvg } from '@resvg/resvg-js';
import { repaint } from './colour.mjs';

const SIZE = 208;
const require = createRequire(import.meta.url);
const vocabulary = JSON.parse(readFileSync(new URL('../vocabulary.json', import.meta.url), 'utf8'));
const output = process.argv[2];
mkdirSync(output, { recursive: true });

const sets = new Map();
function icon(id) {
  const [prefix, name] = id.split(':');
  if (!sets.has(prefix)) sets.set(prefix, require(`@iconify-json/${prefix}/icons.json`));
  const set = sets.get(prefix);
  const { body, width = set.width ?? 16, height = set.height ?? 16 } = set.icons[name];
  return { body, width, height };
}

function render({ body, width, height }) {
  const svg = `<svg xmlns="http://www.w3.org/2000/svg" width="${SIZE}" height="${SIZE}" viewBox="0 0 ${width} ${height}">${body}</svg>`;
  return new Resvg(svg).render().pixels;
}

const index = [];
const file = createWriteStream(`${output}/sprites.bin`);
for (const noun of vocabulary.nouns) {
  const art = icon(noun.icon);
  // `dress`: the art's own colours are dull, so this colour is its natural look.
  if (noun.dress) art.body = repaint(art.body, noun.paint, vocabulary.colours[noun.dress]);
  file.write(render(art));
  index.push({ noun: noun.name, colour: null });
  if (!noun.paint) continue;
  for (const colour of noun.colours ?? Object.keys(vocabulary.colours)) {
    let body = repaint(icon(noun.icon).body, noun.paint, vocabulary.colours[colour]);
    // The eyes of a black animal would vanish.
    if (colour === 'black' && /animal|flyer|swimmer/.test(noun.kind)) body = body.replace(/#(212121|1c1c1c)/g, '#ffd54a');
    file.write(render({ ...art, body }));
    index.push({ noun: noun.name, colour });
  }
}
file.end();
writeFileSync(`${output}/sprites.json`, JSON.stringify({ size: SIZE, sprites: index }));
console.log(`${index.length} sprites`);
