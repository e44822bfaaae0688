"""Scenes: what is in a picture (`Scene`), drawn at random and rendered from sprites and backgrounds.

A scene is small on purpose: one object, two different ones or up to four alike, at nearly the same size and place, on one background.
"""

import json
import random
import zlib
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image

from .vocabulary import BACKGROUNDS, HABITATS, NOUNS, PLACES, PLAIN

SIZE = 256
OPEN_PLACES = {"unnamed", "white", "sky", "space", *(f"plain {colour}" for colour in PLAIN)}
LANDMARKS = {"rome", "paris", "desert"}
TWO_SHARE, COUNTED_SHARE = 0.42, 0.26
NAMED_PLACES = [place for place in PLACES if place != "white"]


@dataclass(frozen=True)
class Thing:
    """One to four of a noun in a colour; colour None means its natural look."""

    noun: str
    colour: str | None
    count: int = 1


@dataclass(frozen=True)
class Scene:
    """One or two things, left to right, or top to bottom when `stacked`, on a background of `BACKGROUNDS`."""

    things: tuple[Thing, ...]
    place: str
    stacked: bool = False


def is_held_out(scene: Scene) -> bool:
    """True for what training never sees: one in twelve of noun × colour × place, of pairs of nouns, and of noun × count."""
    if any(thing.count > 1 and _chosen(thing.noun, thing.count) for thing in scene.things):
        return True
    if len(scene.things) > 1 and _chosen(*sorted(thing.noun for thing in scene.things)):
        return True
    return any(
        thing.colour is not None
        and scene.place != "unnamed"
        and (thing.noun, thing.colour, scene.place) != ("cat", "white", "rome")
        and _chosen(thing.noun, thing.colour, scene.place)
        for thing in scene.things
    )


def _chosen(*parts: object) -> bool:
    return zlib.crc32("/".join(map(str, parts)).encode()) % 12 == 0


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
    chance = rng.random()
    if chance < TWO_SHARE:
        things.append(_random_thing(rng))
    elif chance < TWO_SHARE + COUNTED_SHARE:
        things = [replace(things[0], count=rng.randint(2, 4))]
    stacked = len(things) == 2 and rng.random() < 0.3
    return Scene(tuple(things), _random_place(rng, NOUNS[things[0].noun].kind), stacked)


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
        for thing, size, x, y in _layout(scene, rng):
            sprite = Image.fromarray(np.array(self._sprites[self._sprite_index[thing.noun, thing.colour]]))
            sprite = sprite.convert("RGBa").resize((size, size), Image.Resampling.BILINEAR).convert("RGBA")
            picture.paste(sprite, (x, y), sprite)
        return np.asarray(picture)


def _layout(scene: Scene, rng: random.Random) -> list[tuple[Thing, int, int, int]]:
    """What to paste, the farthest first: the thing, its size, left and top in pixels."""
    thing = scene.things[0]
    if len(scene.things) == 1 and thing.count == 1:
        shares = [(thing, *_alone(scene, rng))]
    else:
        shares = [slot for thing, region in zip(scene.things, _regions(scene)) for slot in _fill(thing, region, scene, rng)]
    slots = [(thing, round(size * SIZE), round((x - size / 2) * SIZE), round(top * SIZE)) for thing, size, x, top in shares]
    return sorted(slots, key=lambda slot: slot[1] + slot[3])


def _alone(scene: Scene, rng: random.Random) -> tuple[float, float, float]:
    """Size, centre and top of a thing alone, in shares of the picture's side."""
    floats = NOUNS[scene.things[0].noun].kind == "sky"
    open_place = scene.place in OPEN_PLACES
    low, high = (0.7, 0.79) if open_place else (0.56, 0.64) if floats else (0.6, 0.67) if scene.place in LANDMARKS else (0.65, 0.73)
    size, centre = rng.uniform(low, high), 0.5 + rng.uniform(-0.025, 0.025)
    if open_place:
        top = 0.5 - size / 2 + rng.uniform(-0.02, 0.02)
    elif floats:
        top = 0.42 - size / 2 + rng.uniform(-0.02, 0.02)
    else:
        top = rng.uniform(0.92, 0.95) - size
    return size, centre, top


def _regions(scene: Scene) -> list[tuple[float, float, float, float]]:
    """Left, top, right and bottom of each thing's part of the picture."""
    top, bottom = (0.1, 0.9) if scene.place in OPEN_PLACES else (0.14, 0.95)
    middle = 0.5 * (top + bottom)
    if len(scene.things) == 1:
        return [(0.06, top, 0.94, bottom)]
    if scene.stacked:
        return [(0.06, 0.05, 0.94, middle), (0.06, middle, 0.94, bottom)]
    return [(0.03, top, 0.5, bottom), (0.5, top, 0.97, bottom)]


def _fill(thing: Thing, region: tuple[float, float, float, float], scene: Scene, rng: random.Random) -> list[tuple[Thing, float, float, float]]:
    """Thing, size, centre and top of each of the thing's drawings: two beside each other, three as a triangle, four as a square."""
    left, top, right, bottom = region
    rows = {1: [1], 2: [2], 3: [1, 2], 4: [2, 2]}[thing.count]
    cell = min((right - left) / max(rows), (bottom - top) / len(rows))
    size = min(0.94 * cell, 0.72) * rng.uniform(0.95, 1.03)
    floats = scene.place in OPEN_PLACES or NOUNS[thing.noun].kind in ("flyer", "sky") or scene.stacked
    slots = []
    for row, columns in enumerate(rows):
        base = top + (bottom - top) * (row + 0.5) / len(rows) + size / 2 if floats else bottom - (len(rows) - 1 - row) * cell * 0.96
        for column in range(columns):
            centre = (left + right) / 2 + (column - (columns - 1) / 2) * min((right - left) / columns, cell * 1.15)
            slots.append((thing, size, centre + rng.uniform(-0.015, 0.015), base - size + rng.uniform(-0.01, 0.01)))
    return slots
