"""The art bank: renders scenes from the drawings and backgrounds that `easel_sketch.pack` put into one file.

A drawing is stored once, with a mask of the parts that a colour word repaints; repainting, scaling and pasting take about a
millisecond a drawing.
"""

import io
import json
import random
import zipfile
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from . import colour as colours
from .layout import Slot, lay_out
from .scenes import EYED, SIZE, Scene
from .styles import in_style
from .vocabulary import COLOUR_VALUES, NOUNS


@dataclass(frozen=True)
class Instance:
    """One drawing in a picture. `colour` is the word it fits, named or natural, None for a look of many colours.

    `box` is left, top, right and bottom in pixels of what is visible, inside the picture.
    """

    noun: str
    colour: str | None
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class Drawing:
    """RGBA pixels, cut to what is visible; the mask (mode L, or None) is what a colour word repaints; `shade` its mean lightness."""

    picture: Image.Image
    mask: Image.Image | None
    shade: float


# How the light of a time falls on things: a colour, and how much of it.
TINTS = {"night": ((38, 44, 100), 0.2), "sunset": ((190, 80, 90), 0.14), "dawn": ((255, 214, 214), 0.1)}


class ArtBank:
    """Reads `art.zip`; drawings are decoded when first used."""

    def __init__(self, folder: Path):
        self._file = zipfile.ZipFile(folder / "art.zip")
        index = json.loads(self._file.read("index.json"))
        self._drawings = {(d["noun"], d["pose"]): d for d in index["drawings"]}
        self._backgrounds: dict[str, int] = index["backgrounds"]
        self._shadow = _soft_ellipse()

    def render(self, scene: Scene, rng: random.Random, exact: bool = False) -> tuple[np.ndarray, list[Instance]]:
        """Returns the picture, uint8 [256, 256, 3], and what was drawn, in the order of painting; `exact` puts all things exactly in their slots."""
        name = f"{scene.place}/{scene.time or 'day'}"
        if name not in self._backgrounds or scene.place == "unnamed" and scene.time is None:
            name = scene.place
        if name == "unnamed" and any((thing.colour or NOUNS[thing.noun].natural) == "white" for thing in scene.things):
            name = "unnamed behind white"
        picture = self._background(name, rng.randrange(self._backgrounds[name])).copy()
        instances = [self._paint(picture, scene, slot) for slot in lay_out(scene, None if exact else rng)]
        return np.asarray(in_style(picture, scene.style, rng)), instances

    def _paint(self, picture: Image.Image, scene: Scene, slot: Slot) -> Instance:
        thing = slot.thing
        noun = NOUNS[thing.noun]
        drawing = self._drawing(thing.noun, thing.pose)
        side = slot.size * SIZE
        scale = side / max(drawing.picture.size)
        width, height = (max(1, round(scale * length)) for length in drawing.picture.size)
        sprite = drawing.picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        colour = thing.colour or noun.dress
        if colour and drawing.mask:
            mask = drawing.mask.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
            sprite = colours.repaint(sprite, mask, drawing.shade, COLOUR_VALUES[colour])
        if colour == "black" and noun.kind in EYED:
            sprite = colours.light_eyes(sprite, mask)
        x = round(slot.centre * SIZE - width / 2)
        bottom = slot.bottom * SIZE if slot.grounded else slot.bottom * SIZE - (side - height) / 2
        y = round(bottom - height)
        if slot.grounded:
            shadow = self._shadow.resize((round(width * 1.1), max(3, round(width * 0.14))))
            picture.paste((0, 0, 0), (x - round(width * 0.05), y + height - round(width * 0.08)), shadow)
        if scene.time in TINTS:
            sprite = colours.tint(sprite, *TINTS[scene.time])
        picture.paste(sprite, (x, y), sprite)
        box = (max(0, x), max(0, y), min(SIZE, x + width), min(SIZE, y + height))
        return Instance(thing.noun, thing.colour or noun.natural, box)

    @lru_cache(maxsize=None)
    def _drawing(self, noun: str, pose: str | None) -> Drawing:
        entry = self._drawings[noun, pose]
        picture = self._open(f"drawings/{entry['file']}.webp", "RGBA")
        mask = self._open(f"drawings/{entry['file']}-mask.png", "L") if entry["shade"] is not None else None
        return Drawing(picture, mask, entry["shade"] or 0.0)

    @lru_cache(maxsize=None)
    def _background(self, name: str, variant: int) -> Image.Image:
        return self._open(f"backgrounds/{name}/{variant}.webp", "RGB")

    def preload(self) -> None:
        """Decodes everything, so that processes forked from this one share it."""
        for key in self._drawings:
            self._drawing(*key)
        for name, variants in self._backgrounds.items():
            for variant in range(variants):
                self._background(name, variant)

    def _open(self, name: str, mode: str) -> Image.Image:
        return Image.open(io.BytesIO(self._file.read(name))).convert(mode)


def _soft_ellipse() -> Image.Image:
    """A mask that fades from a quarter in its middle to nothing at its edge."""
    y, x = np.mgrid[-1:1:32j, -1:1:64j]
    return Image.fromarray((64 * np.clip(1 - x**2 - y**2, 0, 1)).astype(np.uint8))
