"""The words easel-sketch knows, read from vocabulary.json: nouns, colours, places, times of day and styles."""

import json
from dataclasses import dataclass
from pathlib import Path

_DATA = json.loads((Path(__file__).parent.parent / "vocabulary.json").read_text())


@dataclass(frozen=True)
class Noun:
    """One thing that can be drawn, the most important nouns first in NOUNS."""

    name: str
    kind: str
    words: tuple[str, ...]  # that mean it
    near: tuple[str, ...]  # that mean a kind of it, or something so like it that it may stand for it
    painted: bool  # whether it can take a colour word
    natural: str | None  # colour word of its own look, where one fits
    dress: str | None  # colour that it wears when none is named, since its drawing is grey
    poses: tuple[str, ...]
    must: bool
    countable: bool

    @property
    def colours(self) -> tuple[str, ...]:
        """Colour words that it may take."""
        return tuple(COLOURS) if self.painted else ()


@dataclass(frozen=True)
class Place:
    """Somewhere; `outdoors` places can be seen at every time of day."""

    name: str
    words: tuple[str, ...]
    outdoors: bool


COLOUR_VALUES: dict[str, tuple[float, float, float]] = {name: tuple(hsl) for name, hsl in _DATA["colours"].items()}
COLOURS: list[str] = list(COLOUR_VALUES)
PLACES: dict[str, Place] = {
    name: Place(name, tuple(words), name in _DATA["outdoors"]) for name, words in _DATA["places"].items()
}
TIMES: dict[str, list[str]] = _DATA["times"]
STYLES: dict[str, list[str]] = _DATA["styles"]
PLAIN: list[str] = _DATA["plain"]
HABITATS: dict[str, list[str]] = _DATA["habitats"]
# Words without a singular, and words without a plural.
PLURAL_WORDS: frozenset[str] = frozenset(_DATA["plural"])
MASS_WORDS: frozenset[str] = frozenset(_DATA["mass"])


NOUNS: dict[str, Noun] = {
    entry["name"]: Noun(
        name=entry["name"],
        kind=entry["kind"],
        words=tuple(entry["words"]),
        near=tuple(entry["near"]),
        painted=entry.get("painted", False),
        natural=entry.get("dress", entry.get("natural")),
        dress=entry.get("dress"),
        poses=tuple(entry.get("poses", ())),
        must=entry.get("must", False),
        countable=entry["name"] not in PLURAL_WORDS | MASS_WORDS,
    )
    for entry in _DATA["nouns"]
}

# What a scene's place may be: a named place, a plain colour, or nothing said about it.
BACKGROUNDS: list[str] = ["unnamed", *PLACES, *(f"plain {colour}" for colour in PLAIN)]
