import { readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";

// What the built-in model can know. Nothing here needs the packages that the art comes from.

interface Noun {
  name: string;
  kind: string;
  words: string[];
  near: string[];
  emoji?: string;
  openclipart?: string;
  natural?: string;
}
interface Vocabulary {
  nouns: Noun[];
  colours: Record<string, number[]>;
  places: Record<string, string[]>;
  outdoors: string[];
  times: Record<string, string[]>;
  styles: Record<string, string[]>;
  plain: string[];
  habitats: Record<string, string[]>;
}

const training = new URL("../training/", import.meta.url);
const read = (name: string): string => readFileSync(new URL(name, training), "utf8");
const vocabulary = JSON.parse(read("vocabulary.json")) as Vocabulary;
const { nouns, colours, places } = vocabulary;

describe("the vocabulary of the built-in model", () => {
  it("has at least 600 nouns, 11 colours, 15 places, 4 times of day and 4 styles", () => {
    expect(nouns.length).toBeGreaterThanOrEqual(600);
    expect(Object.keys(colours)).toHaveLength(11);
    expect(Object.keys(places).length).toBeGreaterThanOrEqual(15);
    expect(Object.keys(vocabulary.times)).toHaveLength(4);
    expect(Object.keys(vocabulary.styles)).toHaveLength(4);
  });

  it("gives no word to two things", () => {
    const owners = new Map<string, string[]>();
    for (const noun of nouns)
      for (const word of new Set([...noun.words, ...noun.near]))
        owners.set(word, [...(owners.get(word) ?? []), noun.name]);
    expect([...owners].filter(([, names]) => names.length > 1)).toEqual([]);
  });

  it("gives no phrase to two places, times or styles", () => {
    const phrases = [places, vocabulary.times, vocabulary.styles].flatMap((group) => Object.values(group).flat());
    expect(phrases.filter((phrase, i) => phrases.indexOf(phrase) !== i)).toEqual([]);
  });

  it("calls every thing first by its own name, and has one drawing of it", () => {
    for (const noun of nouns) {
      expect(noun.words[0]).toBe(noun.name);
      expect([noun.emoji, noun.openclipart].filter(Boolean), noun.name).toHaveLength(1);
      if (noun.natural) expect(colours, noun.name).toHaveProperty([noun.natural]);
    }
  });

  it("has a home for every kind of thing, among the places", () => {
    for (const { kind } of nouns) expect(vocabulary.habitats[kind], kind).toBeDefined();
    for (const place of [...Object.values(vocabulary.habitats).flat(), ...vocabulary.outdoors])
      expect(places).toHaveProperty([place]);
  });

  it("takes what it knows of places, times and styles from vocabulary-fixed.json, unchanged", () => {
    expect(vocabulary).toMatchObject(JSON.parse(read("vocabulary-fixed.json")) as object);
  });

  it("asks the text encoders only for what it has", () => {
    const prompts = read("reading-prompts.txt")
      .trim()
      .split("\n")
      .filter((line) => !line.startsWith("#"));
    for (const line of prompts) {
      const [, noun = "", colour = "", place = ""] = line.split("|").map((part) => part.trim());
      expect(
        nouns.some(({ name }) => name === noun),
        line,
      ).toBe(true);
      if (colour !== "-") expect(colours, line).toHaveProperty([colour]);
      const isPlace = [
        "-",
        "unnamed",
        ...Object.keys(places),
        ...vocabulary.plain.map((word) => `plain ${word}`),
      ].includes(place);
      expect(isPlace, line).toBe(true);
    }
  });
});
