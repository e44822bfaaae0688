"""Scenes: what is in a picture (`Scene`), drawn at random, and which of them training never sees.

`Mix` says what share of the scenes is of each kind, so that a training run can begin narrow (one thing, one style, the commonest
nouns) and widen.
"""

import random
import zlib
from dataclasses import dataclass, replace
from functools import lru_cache
from itertools import accumulate

from .vocabulary import HABITATS, NOUNS, PLACES, PLAIN, STYLES, TIMES

SIZE = 256
RELATIONS = ("left", "right", "above", "below", "beside")
SIZES = ("small", "large")
LARGEST_COUNT = 4
# Kinds with dark eyes, which black would swallow: a black one has light eyes, and these can be seen at night.
EYED = {"animal", "flyer", "swimmer", "shore"}
NAMED_PLACES = [place for place in PLACES if place != "white"]


@dataclass(frozen=True)
class Thing:
    """One to four of a noun, all alike. None stands for what a caption does not say: the natural colour, the usual size and pose."""

    noun: str
    colour: str | None = None
    size: str | None = None
    count: int = 1
    pose: str | None = None


@dataclass(frozen=True)
class Scene:
    """One to three different things, at most four drawings in all, somewhere.

    `relation` is where the first of two things stands, seen from the second; None and "beside" put the first on the left. `place` is
    one of `vocabulary.BACKGROUNDS`; `time` and `style` are keys of TIMES and STYLES, or None when a caption is silent about them.
    """

    things: tuple[Thing, ...]
    relation: str | None = None
    place: str = "unnamed"
    time: str | None = None
    style: str | None = None


@dataclass(frozen=True)
class Mix:
    """Shares of scenes. What is left over by `two`, `three` and `counting` is one thing alone."""

    two: float = 0.27
    three: float = 0.03
    counting: float = 0.2
    nouns: int | None = None  # only this many of the nouns, the most important first
    styles: tuple[str | None, ...] = (None, None, None, None, *STYLES)
    coloured: float = 0.55  # share of things in a colour that the caption names
    sized: float = 0.1
    timed: float = 0.35  # share of outdoor scenes whose caption names a time
    must_weight: float = 3.0  # of the nouns that must be recognised, beside 1 of any other
    common_weight: float = 1.0  # of the other COMMON nouns


COMMON = 150  # nouns that come first
NARROW = Mix(two=0.08, three=0.0, counting=0.04, nouns=150, styles=(None,), sized=0.0, timed=0.15)
WIDER = Mix(two=0.18, three=0.0, counting=0.12, nouns=400)
EVERYTHING = Mix()
# All nouns in their usual style, the commonest often: what a CPU can learn in a night.
USUAL = Mix(two=0.26, three=0.0, counting=0.16, styles=(None,), sized=0.08, timed=0.15, must_weight=10.0, common_weight=2.5)
# The commonest nouns in their usual style, two things as often as one: a few hours of a CPU, from a model that knows half of them.
FAMILIAR = Mix(two=0.38, three=0.0, counting=0.18, nouns=COMMON, styles=(None,), sized=0.06, timed=0.12)
# All nouns, three in ten of them in a named style: from a model of the familiar ones.
BROAD = Mix(
    two=0.32, three=0.02, counting=0.15, styles=(*[None] * 16, "flat", *["pencil"] * 2, *["watercolor"] * 2, *["neon"] * 2),
    sized=0.06, timed=0.12, must_weight=10.0, common_weight=2.5,
)  # fmt: skip
MIXES = {"narrow": NARROW, "familiar": FAMILIAR, "broad": BROAD, "wider": WIDER, "usual": USUAL, "everything": EVERYTHING}


# What the first list of evaluation prompts calls some nouns: what was kept aside under these names stays so.
EARLIER_NAMES = {"cup of coffee": "coffee", "crescent moon": "moon", "ice cream cone": "ice cream", "soccer ball": "ball", "top hat": "hat"}


def is_held_out(scene: Scene) -> bool:
    """True for the combinations that training never sees: one in twelve of noun × colour × place, of pairs of nouns, and of noun × count.

    The prompt that Easel began with, "a white cat resting in Rome", may be trained on.
    """
    earlier = tuple(replace(thing, noun=EARLIER_NAMES.get(thing.noun, thing.noun)) for thing in scene.things)
    return _is_kept_aside(scene) or _is_kept_aside(replace(scene, things=earlier))


def _is_kept_aside(scene: Scene) -> bool:
    things = scene.things
    if any(thing.count > 1 and _chosen(thing.noun, thing.count) for thing in things):
        return True
    nouns = sorted(thing.noun for thing in things)
    if any(_chosen(a, b) for i, a in enumerate(nouns) for b in nouns[i + 1 :]):
        return True
    return any(
        thing.colour is not None
        and scene.place != "unnamed"
        and (thing.noun, thing.colour, scene.place) != ("cat", "white", "rome")
        and _chosen(thing.noun, thing.colour, scene.place)
        for thing in things
    )


def _chosen(*parts: object) -> bool:
    return zlib.crc32("/".join(map(str, parts)).encode()) % 12 == 0


def random_scene(rng: random.Random, held_out: bool = False, mix: Mix = EVERYTHING) -> Scene:
    """Draws a scene; `held_out` chooses between the training and the evaluation combinations."""
    while True:
        scene = _any_scene(rng, mix)
        if is_sensible(scene) and is_held_out(scene) == held_out:
            return scene


def is_sensible(scene: Scene) -> bool:
    """Things can be seen against the background and differ; at most four drawings."""
    if len({thing.noun for thing in scene.things}) < len(scene.things) or sum(thing.count for thing in scene.things) > LARGEST_COUNT:
        return False
    for thing in scene.things:
        noun = NOUNS[thing.noun]
        colour = thing.colour or noun.natural
        if colour is not None and scene.place == f"plain {colour}" or colour == "white" and scene.place == "white":
            return False
        if thing.count > 1 and not noun.countable:
            return False
        if colour == "black" and scene.time == "night" and noun.kind not in EYED:
            return False
    return scene.time is None or has_times(scene.place)


def has_times(place: str) -> bool:
    """Whether the place looks different at different times of day; a time alone gives an open field."""
    return place == "unnamed" or place in PLACES and PLACES[place].outdoors


_NAMES = list(NOUNS)


@lru_cache
def _weights(mix: Mix) -> list[float]:
    """Of the nouns of `mix`, added up."""
    nouns = list(NOUNS.values())[: mix.nouns]
    weights = [mix.must_weight if noun.must else mix.common_weight if i < COMMON else 1.0 for i, noun in enumerate(nouns)]
    return list(accumulate(weights))


def _any_scene(rng: random.Random, mix: Mix) -> Scene:
    if rng.random() < 0.04:
        return _roman_neighbour(rng, mix)
    chance = rng.random()
    style = rng.choice(mix.styles)
    things = [_random_thing(rng, mix)]
    relation = None
    if chance < mix.two:
        things.append(_random_thing(rng, mix))
        relation = rng.choice([None, None, *RELATIONS])
        if rng.random() < 0.15:
            counts = rng.choice([(2, 1), (1, 2), (2, 2), (3, 1), (1, 3)])
            things = [replace(thing, count=count) for thing, count in zip(things, counts)]
    elif chance < mix.two + mix.three:
        things += [_random_thing(rng, mix), _random_thing(rng, mix)]
    elif chance < mix.two + mix.three + mix.counting:
        things = [replace(things[0], count=rng.randint(2, LARGEST_COUNT), size=None)]
    place = _random_place(rng, NOUNS[things[0].noun].kind)
    return Scene(tuple(things), relation, place, _random_time(rng, place, mix), style)


def _roman_neighbour(rng: random.Random, mix: Mix) -> Scene:
    """Two of the three of cat, white and Rome, or all of them."""
    noun, colour, place = "cat", "white", "rome"
    change = rng.choice(["noun", "colour", "place", "none"])
    if change == "noun":
        noun = _random_thing(rng, mix).noun
        colour = "white" if "white" in NOUNS[noun].colours else None
    elif change == "colour":
        colour = rng.choice([None, *NOUNS["cat"].colours])
    elif change == "place":
        place = rng.choice(NAMED_PLACES)
    pose = rng.choice([None, *NOUNS[noun].poses])
    return Scene((Thing(noun, colour, pose=pose),), place=place)


def _random_thing(rng: random.Random, mix: Mix) -> Thing:
    noun = NOUNS[rng.choices(_NAMES[: mix.nouns], cum_weights=_weights(mix))[0]]
    colour = rng.choice(noun.colours) if noun.colours and rng.random() < mix.coloured else None
    size = rng.choice(SIZES) if rng.random() < mix.sized else None
    pose = rng.choice(noun.poses) if noun.poses and rng.random() < 0.4 else None
    return Thing(noun.name, colour, size, pose=pose)


def _random_place(rng: random.Random, kind: str) -> str:
    chance = rng.random()
    if chance < 0.2:
        return "unnamed"
    if chance < 0.26:
        return "white"
    if chance < 0.37:
        return f"plain {rng.choice(PLAIN)}"
    return rng.choice(HABITATS[kind] if rng.random() < 0.65 else NAMED_PLACES)


def _random_time(rng: random.Random, place: str, mix: Mix) -> str | None:
    share = mix.timed * (0.3 if place == "unnamed" else 1)
    return rng.choice(list(TIMES)) if has_times(place) and rng.random() < share else None
