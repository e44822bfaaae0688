"""The words easel-sketch knows: nouns, colours and places, read from vocabulary.json."""

import json
from dataclasses import dataclass
from pathlib import Path

_DATA = json.loads((Path(__file__).parent.parent / "vocabulary.json").read_text())


@dataclass(frozen=True)
class Noun:
    """One thing that can be drawn, with the colour words it may take."""

    name: str
    kind: str
    words: tuple[str, ...]
    colours: tuple[str, ...]
    natural: str | None
    must: bool


COLOURS: list[str] = list(_DATA["colours"])
PLACES: dict[str, list[str]] = _DATA["places"]
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
    )
    for entry in _DATA["nouns"]
}

# Background names as art/backgrounds.mjs writes them.
BACKGROUNDS: list[str] = ["unnamed", *PLACES, *(f"plain {colour}" for colour in PLAIN)]
