"""The words easel-sketch knows, read from vocabulary.json: nouns, colours, places, times of day and styles."""

import json
from dataclasses import dataclass
from pathlib import Path

_DATA = json.loads((Path(__file__).parent.parent / "vocabulary.json").read_text())


@dataclass(frozen=True)
class Noun:
    """One thing that can be drawn. `colours` are the words it may take, `natural` the word for its own look where there is one."""

    name: str
    kind: str
    words: tuple[str, ...]
    colours: tuple[str, ...]
    natural: str | None
    must: bool
    styles: tuple[str, ...]
    poses: tuple[str, ...]


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
NOUNS: dict[str, Noun] = {
    entry["name"]: Noun(
        name=entry["name"],
        kind=entry["kind"],
        words=tuple(entry["words"]),
        colours=tuple(entry.get("colours", COLOURS)) if "paint" in entry else (),
        natural=entry.get("natural"),
        must=entry.get("must", False),
        styles=tuple(entry.get("styles", STYLES)),
        poses=tuple(entry.get("poses", ())),
    )
    for entry in _DATA["nouns"]
}

# What a scene's place may be: a named place, a plain colour, or nothing said about it.
BACKGROUNDS: list[str] = ["unnamed", *PLACES, *(f"plain {colour}" for colour in PLAIN)]
