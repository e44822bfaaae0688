"""Where things stand in a picture: one `Slot` for every drawing of a scene.

There are few slots on purpose. A thing alone is in the middle; two things have the same size in all relations, and stand whole tokens (an
eighth of the picture) apart, but in height where one flies and the other has ground to stand on: so what a small model learns of a drawing in
one slot holds in the others.
"""

import random
from dataclasses import dataclass

from .scenes import Scene, Thing
from .vocabulary import NOUNS, PLACES

FLOATING = {"flyer", "sky"}
SIZE_FACTORS = {None: 1.0, "small": 0.58, "large": 1.2}


@dataclass(frozen=True)
class Slot:
    """A square that holds one drawing, in shares of the picture's side; `grounded` when the drawing stands on its lower edge."""

    thing: Thing
    centre: float
    bottom: float
    size: float
    grounded: bool


def lay_out(scene: Scene, rng: random.Random | None) -> list[Slot]:
    """Slots in the order in which they are painted, the farthest first; a little off their places, and of other sizes, with `rng`."""
    slots: list[Slot] = []
    for thing, region in zip(scene.things, _regions(scene)):
        slots += _fill(thing, region, is_open(scene), rng)
    return sorted(slots, key=lambda slot: slot.bottom)


def is_open(scene: Scene) -> bool:
    """True where there is no ground to stand on."""
    return scene.time is None and scene.place not in PLACES or scene.place in ("white", "sky", "space")


Region = tuple[float, float, float, float]  # left, top, right, bottom


def _regions(scene: Scene) -> list[Region]:
    """One for each thing. Two are beside each other unless the relation says above or below; three stand in a row."""
    top, bottom = (0.1, 0.9) if is_open(scene) else (0.14, 0.95)
    upper, lower = (0.0, 0.0, 1.0, 0.5), (0.0, 0.5, 1.0, 1.0)
    match len(scene.things), scene.relation:
        case 1, _:
            return [(0.0, top, 1.0, bottom)]
        case 2, "above":
            return [upper, lower]
        case 2, "below":
            return [lower, upper]
        case 2, "right":
            return [(0.5, top, 1.0, bottom), (0.0, top, 0.5, bottom)]
        case count, _:
            return [(i / count, top, (i + 1) / count, bottom) for i in range(count)]


def _fill(thing: Thing, region: Region, is_open: bool, rng: random.Random | None) -> list[Slot]:
    """Places `thing.count` drawings in rows, the fuller row in front."""
    left, top, right, bottom = region
    width, height = right - left, bottom - top
    rows = _rows(thing.count, width > 1.4 * height, height > 1.4 * width)
    cell = min(width / max(rows), height / len(rows))
    size = min(0.9 * cell * SIZE_FACTORS[thing.size] * (rng.uniform(0.95, 1.03) if rng else 1.0), cell * 1.02)
    floats = NOUNS[thing.noun].kind in FLOATING
    slots = []
    for row, columns in enumerate(rows):
        if is_open or floats or height <= 0.5:
            base = top + height * (row + 0.5) / len(rows) + size / 2
        else:
            base = bottom - (len(rows) - 1 - row) * cell * 0.96
        for column in range(columns):
            centre = left + width / 2 + (column - (columns - 1) / 2) * min(width / columns, cell * 1.15)
            x, y = (rng.uniform(-0.015, 0.015), rng.uniform(-0.01, 0.01)) if rng else (0.0, 0.0)
            slots.append(Slot(thing, centre + x, base + y, size, not floats and not is_open))
    return slots


def _rows(count: int, is_wide: bool, is_tall: bool) -> list[int]:
    if is_wide:
        return [count]
    if is_tall:
        return [1] * count if count < 4 else [2, 2]
    return {1: [1], 2: [2], 3: [1, 2], 4: [2, 2]}[count]
