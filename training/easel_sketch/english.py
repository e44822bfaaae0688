"""A little English grammar for captions: plurals and articles."""

from .vocabulary import MASS_WORDS, PLURAL_WORDS

_IRREGULAR = {
    "mouse": "mice", "goose": "geese", "child": "children", "foot": "feet", "tooth": "teeth", "ox": "oxen", "die": "dice", "person": "people",
    "wolf": "wolves", "leaf": "leaves", "knife": "knives", "loaf": "loaves", "scarf": "scarves", "calf": "calves", "elf": "elves", "half": "halves",
    "cactus": "cacti", "thief": "thieves", "wife": "wives", "life": "lives", "bus": "buses", "gas": "gases", "lens": "lenses", "human": "humans", "german": "germans",
    "potato": "potatoes", "tomato": "tomatoes", "volcano": "volcanoes", "mango": "mangoes", "tornado": "tornadoes", "hero": "heroes", "superhero": "superheroes",
}  # fmt: skip
_UNCHANGED = ("sheep", "fish", "deer", "moose", "bison", "shrimp", "squid", "salmon", "swine", "elk", "buffalo", "aircraft", "series", "species")
_SOUNDS_LIKE_YOU = ("uni", "ufo", "use", "eu", "ukul", "one", "uran")


def is_countable(word: str) -> bool:
    return word not in PLURAL_WORDS and word not in MASS_WORDS


def plural(phrase: str) -> str:
    """The plural of a noun, or of a phrase whose head stands before "of", "in", "on", "with" or "behind", or else last."""
    words = phrase.split()
    head = next((i - 1 for i, word in enumerate(words) if i and word in ("of", "in", "on", "with", "behind")), len(words) - 1)
    words[head] = _plural_word(words[head])
    return " ".join(words)


def _plural_word(word: str) -> str:
    if word in _IRREGULAR:
        return _IRREGULAR[word]
    if word.endswith(_UNCHANGED):
        return word
    if word.endswith("man"):
        return word[:-3] + "men"
    if word.endswith("y") and word[-2:-1] not in "aeiou":
        return word[:-1] + "ies"
    return word + ("es" if word.endswith(("s", "x", "z", "ch", "sh")) else "s")


def article(phrase: str) -> str:
    """ "a" or "an"."""
    return "an" if phrase[0] in "aeiou" and not phrase.startswith(_SOUNDS_LIKE_YOU) or phrase.startswith("hour") else "a"
