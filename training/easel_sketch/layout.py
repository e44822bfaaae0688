"""Where things stand in a picture: one `Slot` for every drawing of a scene.

Positions vary little on purpose: a small model learns what stays in place first.
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


def lay_out(scene: Scene, rng: random.Random) -> list[Slot]:
    """Slots in the order in which they are painted, the farthest first."""
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
    middle = 0.5 * (top + bottom)
    match len(scene.things), scene.relation:
        case 1, _:
            return [(0.06, top, 0.94, bottom)]
        case 2, "above":
            return [(0.06, 0.05, 0.94, middle), (0.06, middle, 0.94, bottom)]
        case 2, "below":
            return [(0.06, middle, 0.94, bottom), (0.06, 0.05, 0.94, middle)]
        case 2, "right":
            return [(0.5, top, 0.97, bottom), (0.03, top, 0.5, bottom)]
        case count, _:
            edges = [0.03 + 0.94 * i / count for i in range(count + 1)]
            return [(left, top, right, bottom) for left, right in zip(edges, edges[1:])]


def _fill(thing: Thing, region: Region, is_open: bool, rng: random.Random) -> list[Slot]:
    """Places `thing.count` drawings in rows, the fuller row in front."""
    left, top, right, bottom = region
    width, height = right - left, bottom - top
    rows = _rows(thing.count, width > 1.4 * height, height > 1.4 * width)
    cell = min(width / max(rows), height / len(rows))
    alone = len(rows) == 1 and rows[0] == 1
    natural = min(cell * (0.9 if alone else 0.94), 0.72)
    size = min(natural * SIZE_FACTORS[thing.size] * rng.uniform(0.95, 1.03), cell * 1.02)
    floats = NOUNS[thing.noun].kind in FLOATING
    slots = []
    for row, columns in enumerate(rows):
        if is_open or floats or height < 0.5:
            middle = top + height * (row + 0.5) / len(rows)
            base = middle + size / 2 if is_open or floats else bottom
        else:
            base = bottom - (len(rows) - 1 - row) * cell * 0.96
        for column in range(columns):
            centre = left + width / 2 + (column - (columns - 1) / 2) * min(width / columns, cell * 1.15)
            slots.append(
                Slot(thing, centre + rng.uniform(-0.015, 0.015), base + rng.uniform(-0.01, 0.01), size, not floats and not is_open)
            )
    return slots


def _rows(count: int, is_wide: bool, is_tall: bool) -> list[int]:
    if is_wide:
        return [count]
    if is_tall:
        return [1] * count if count < 4 else [2, 2]
    return {1: [1], 2: [2], 3: [1, 2], 4: [2, 2]}[count]
