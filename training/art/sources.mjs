// The drawings, by emoji: finds and renders them.

import { readFileSync, existsSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';
import sharp from 'sharp';

const require = createRequire(import.meta.url);
const glossyFolder = `${dirname(require.resolve('@lobehub/fluent-emoji-3d/package.json'))}/assets`;
const NAMESPACES = 'xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink"';
const RENDERED = 320;

const sets = new Map();
function icon(prefix, name) {
  if (!sets.has(prefix)) sets.set(prefix, require(`@iconify-json/${prefix}/icons.json`));
  const set = sets.get(prefix);
  const found = set.icons[name] ?? (set.aliases?.[name] && set.icons[set.aliases[name].parent]);
  return found && { width: set.width ?? 16, height: set.height ?? 16, ...found };
}

/** Names an emoji may have in an icon set: its label, or one of its shortcodes. */
const slug = (label) => label.toLowerCase().replace(/[’'“”.!:]/g, '').replace(/[^a-z0-9]+/g, '-').replace(/-$/, '');
/** Where the sets' names differ from the emoji's label. */
const OTHER_NAMES = {
  'leather shoe': ['mans-shoe'],
  superhero: ['person-superhero', 'superhero'],
  mage: ['person-mage', 'mage'],
  fairy: ['person-fairy', 'fairy'],
  vampire: ['person-vampire', 'vampire'],
  mermaid: ['mermaid', 'woman-merperson', 'woman-mermaid'],
  elf: ['person-elf', 'elf'],
  genie: ['person-genie', 'genie'],
  zombie: ['person-zombie', 'zombie'],
  'man: beard': ['man-beard', 'person-beard'],
};

/** A function that renders the emoji's drawing: the flat one, or where there is none the glossy one. */
export function drawingOf({ label, hexcode }) {
  const flat = [slug(label), ...(OTHER_NAMES[label] ?? [])].map((name) => icon('fluent-emoji-flat', name)).find(Boolean);
  if (flat) return () => renderIcon(flat);
  const codes = hexcode.toLowerCase();
  const glossy = [codes, codes.replaceAll('-fe0f', ''), `${codes}-fe0f`].map((name) => `${glossyFolder}/${name}.webp`).find(existsSync);
  if (!glossy) throw new Error(`There is no drawing of the emoji "${label}"`);
  return () => readFileSync(glossy);
}

function renderIcon({ body, width, height }) {
  return Buffer.from(`<svg ${NAMESPACES} width="${RENDERED}" height="${RENDERED}" viewBox="0 0 ${width} ${height}">${body}</svg>`);
}

/** Renders a file of openclipart (public domain; Debian's package openclipart-svg). */
export const renderFile = (path) => () => readFileSync(path);

/**
 * Draws to RGBA pixels, cut to what is visible and scaled so that the longer side is `longest`.
 * Returns {data, width, height}.
 */
export async function rasterise(render, longest) {
  const whole = await sharp(render(), { density: 96 }).ensureAlpha().png().toBuffer();
  const cut = await sharp(whole).trim({ background: { r: 0, g: 0, b: 0, alpha: 0 }, threshold: 8 }).png().toBuffer();
  const { data, info } = await sharp(cut).resize(longest, longest, { fit: 'inside', kernel: 'lanczos3' }).ensureAlpha().raw().toBuffer({ resolveWithObject: true });
  return { data, width: info.width, height: info.height };
}
