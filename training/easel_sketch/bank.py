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
from .scenes import SIZE, Scene
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


class ArtBank:
    """Reads `art.zip`; drawings are decoded when first used."""

    def __init__(self, folder: Path):
        self._file = zipfile.ZipFile(folder / "art.zip")
        index = json.loads(self._file.read("index.json"))
        self._drawings = {(d["noun"], d["style"], d["pose"]): d for d in index["drawings"]}
        self._backgrounds: dict[str, int] = index["backgrounds"]
        self._default_style = {d["noun"]: d["style"] for d in reversed(index["drawings"]) if d["pose"] is None}

    def render(self, scene: Scene, rng: random.Random) -> tuple[np.ndarray, list[Instance]]:
        """Returns the picture, uint8 [256, 256, 3], and what was drawn, in the order of painting."""
        name = f"{scene.place}/{scene.time}" if scene.time else scene.place
        picture = self._background(name, rng.randrange(self._backgrounds[name])).copy()
        instances = [self._paint(picture, scene, slot) for slot in lay_out(scene, rng)]
        return np.asarray(picture), instances

    def _paint(self, picture: Image.Image, scene: Scene, slot: Slot) -> Instance:
        thing = slot.thing
        drawing = self._drawing(thing.noun, scene.style or self._default_style[thing.noun], thing.pose)
        side = slot.size * SIZE
        scale = side / max(drawing.picture.size)
        width, height = (max(1, round(scale * length)) for length in drawing.picture.size)
        sprite = drawing.picture.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
        if thing.colour and drawing.mask:
            mask = drawing.mask.resize((width, height), Image.Resampling.BILINEAR, reducing_gap=2.0)
            sprite = colours.repaint(sprite, mask, drawing.shade, COLOUR_VALUES[thing.colour])
        x = round(slot.centre * SIZE - width / 2)
        bottom = slot.bottom * SIZE if slot.grounded else slot.bottom * SIZE - (side - height) / 2
        y = round(bottom - height)
        picture.paste(sprite, (x, y), sprite)
        box = (max(0, x), max(0, y), min(SIZE, x + width), min(SIZE, y + height))
        return Instance(thing.noun, thing.colour or NOUNS[thing.noun].natural, box)

    @lru_cache(maxsize=None)
    def _drawing(self, noun: str, style: str, pose: str | None) -> Drawing:
        entry = self._drawings[noun, style, pose]
        picture = self._open(f"drawings/{entry['file']}.webp", "RGBA")
        mask = self._open(f"drawings/{entry['file']}-mask.png", "L") if entry["shade"] is not None else None
        return Drawing(picture, mask, entry["shade"] or 0.0)

    @lru_cache(maxsize=None)
    def _background(self, name: str, variant: int) -> Image.Image:
        return self._open(f"backgrounds/{name}/{variant}.webp", "RGB")

    def _open(self, name: str, mode: str) -> Image.Image:
        return Image.open(io.BytesIO(self._file.read(name))).convert(mode)
