"""Scenes: what is in a picture (`Scene`), drawn at random and rendered from sprites and backgrounds.

A scene is small on purpose: one object, seldom two, at nearly the same size and place, on one background.
"""

import json
import random
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from .vocabulary import BACKGROUNDS, HABITATS, NOUNS, PLACES, PLAIN

SIZE = 256
OPEN_PLACES = {"unnamed", "white", "sky", "space", *(f"plain {colour}" for colour in PLAIN)}
LANDMARKS = {"rome", "paris", "desert"}
NAMED_PLACES = [place for place in PLACES if place != "white"]


@dataclass(frozen=True)
class Thing:
    """A noun in a colour; colour None means its natural look."""

    noun: str
    colour: str | None


@dataclass(frozen=True)
class Scene:
    """One or two things, left to right, on a background of `BACKGROUNDS`."""

    things: tuple[Thing, ...]
    place: str


def is_held_out(scene: Scene) -> bool:
    """True for the noun × colour × place combinations that training never sees (about one in twelve)."""
    thing = scene.things[0]
    if len(scene.things) > 1 or thing.colour is None or scene.place == "unnamed":
        return False
    if (thing.noun, thing.colour, scene.place) == ("cat", "white", "rome"):
        return False
    return zlib.crc32(f"{thing.noun}/{thing.colour}/{scene.place}".encode()) % 12 == 0


def random_scene(rng: random.Random, held_out: bool = False) -> Scene:
    """Draws a scene; `held_out` chooses between the training and the evaluation combinations."""
    while True:
        scene = _any_scene(rng)
        if _is_sensible(scene) and is_held_out(scene) == held_out:
            return scene


_NAMES = list(NOUNS)
_WEIGHTS = [3.0 if noun.must else 1.0 for noun in NOUNS.values()]


def _any_scene(rng: random.Random) -> Scene:
    if rng.random() < 0.04:
        return _roman_neighbour(rng)
    things = [_random_thing(rng)]
    if rng.random() < 0.1:
        things.append(_random_thing(rng))
    return Scene(tuple(things), _random_place(rng, NOUNS[things[0].noun].kind))


def _roman_neighbour(rng: random.Random) -> Scene:
    """Two of the three of cat, white and Rome, or all of them."""
    noun, colour, place = "cat", "white", "rome"
    change = rng.choice(["noun", "colour", "place", "none"])
    if change == "noun":
        noun = rng.choices(_NAMES, _WEIGHTS)[0]
        colour = "white" if "white" in NOUNS[noun].colours else None
    elif change == "colour":
        colour = rng.choice([None, *NOUNS["cat"].colours])
    elif change == "place":
        place = rng.choice(NAMED_PLACES)
    return Scene((Thing(noun, colour),), place)


def _random_thing(rng: random.Random) -> Thing:
    noun = NOUNS[rng.choices(_NAMES, _WEIGHTS)[0]]
    painted = noun.colours and rng.random() < 0.6
    return Thing(noun.name, rng.choice(noun.colours) if painted else None)


def _random_place(rng: random.Random, kind: str) -> str:
    chance = rng.random()
    if chance < 0.2:
        return "unnamed"
    if chance < 0.26:
        return "white"
    if chance < 0.37:
        return f"plain {rng.choice(PLAIN)}"
    return rng.choice(HABITATS[kind] if rng.random() < 0.65 else NAMED_PLACES)


def _is_sensible(scene: Scene) -> bool:
    """Things can be seen against the background, and two things differ."""
    if len({thing.noun for thing in scene.things}) < len(scene.things):
        return False
    for thing in scene.things:
        colour = thing.colour or NOUNS[thing.noun].natural
        if colour is not None and scene.place == f"plain {colour}":
            return False
        if colour == "white" and scene.place == "white":
            return False
    return True


class ArtBank:
    """The rendered sprites and backgrounds that art/*.mjs wrote into a folder."""

    def __init__(self, folder: Path):
        sprites = json.loads((folder / "sprites.json").read_text())
        size = sprites["size"]
        self._sprites = np.memmap(folder / "sprites.bin", np.uint8, "r").reshape(-1, size, size, 4)
        self._sprite_index = {(s["noun"], s["colour"]): i for i, s in enumerate(sprites["sprites"])}
        backgrounds = json.loads((folder / "backgrounds.json").read_text())
        assert backgrounds["names"] == BACKGROUNDS, "backgrounds do not match vocabulary.json: run art/backgrounds.mjs again"
        self._variants = backgrounds["variants"]
        shape = (len(BACKGROUNDS), self._variants, SIZE, SIZE, 3)
        self._backgrounds = np.memmap(folder / "backgrounds.bin", np.uint8, "r").reshape(shape)

    def render(self, scene: Scene, rng: random.Random) -> np.ndarray:
        """Returns the picture, uint8 [256, 256, 3]."""
        variant = self._backgrounds[BACKGROUNDS.index(scene.place), rng.randrange(self._variants)]
        picture = Image.fromarray(np.array(variant))
        for position, thing in enumerate(scene.things):
            size, x, y = _layout(scene, position, rng)
            sprite = Image.fromarray(np.array(self._sprites[self._sprite_index[thing.noun, thing.colour]]))
            sprite = sprite.convert("RGBa").resize((size, size), Image.Resampling.BILINEAR).convert("RGBA")
            picture.paste(sprite, (x, y), sprite)
        return np.asarray(picture)


def _layout(scene: Scene, position: int, rng: random.Random) -> tuple[int, int, int]:
    """Size, left and top in pixels of the thing at `position` (0 is the left of two)."""
    pair = len(scene.things) == 2
    floats = NOUNS[scene.things[position].noun].kind == "sky"
    open_place = scene.place in OPEN_PLACES
    if pair:
        size, centre = rng.uniform(0.43, 0.47), 0.26 + 0.48 * position
    else:
        low, high = (0.7, 0.79) if open_place else (0.56, 0.64) if floats else (0.6, 0.67) if scene.place in LANDMARKS else (0.65, 0.73)
        size, centre = rng.uniform(low, high), 0.5
    centre += rng.uniform(-0.025, 0.025)
    if open_place:
        top = 0.5 - size / 2 + rng.uniform(-0.02, 0.02)
    elif floats:
        top = 0.42 - size / 2 + rng.uniform(-0.02, 0.02)
    else:
        top = rng.uniform(0.92, 0.95) - size
    return round(size * SIZE), round((centre - size / 2) * SIZE), round(top * SIZE)
