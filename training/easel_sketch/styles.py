"""Named styles: what becomes of a finished flat picture.

A style changes every picture in the same way, whatever is in it, so that a model that has seen it on some things can draw all things in it.
Every style must survive the autoencoder, whose latents are cells of 16 × 16 pixels: thin lines do not, nor do the blocks of pixel art.
"""

import random
from functools import lru_cache

import numpy as np
from PIL import Image, ImageChops, ImageFilter, ImageOps

from .scenes import SIZE

PAPER, GRAPHITE, DARKNESS = (250, 248, 242), (60, 60, 66), (16, 12, 34)
WASHES = 12  # shapes that the painted part of a watercolor may have


def in_style(picture: Image.Image, style: str | None, rng: random.Random) -> Image.Image:
    """`picture`, RGB, in one of `vocabulary.STYLES`; None and flat leave it as it is."""
    match style:
        case "pencil":
            return _pencil(picture)
        case "watercolor":
            return _watercolor(picture, _wash(rng.randrange(WASHES)))
        case "neon":
            return _neon(picture)
        case _:
            return picture


def _pencil(picture: Image.Image) -> Image.Image:
    """Outlines, and a light shade of what is dark, in graphite on paper."""
    soft = picture.filter(ImageFilter.GaussianBlur(1.2))
    shade = ImageOps.invert(soft.convert("L")).point([v // 3 for v in range(256)])
    ink = ImageChops.lighter(_outlines(soft, width=5).filter(ImageFilter.GaussianBlur(0.8)), shade)
    return Image.composite(_sheet(GRAPHITE), _sheet(PAPER), ink)


def _watercolor(picture: Image.Image, wash: Image.Image) -> Image.Image:
    """Thin colours, darker at the rims of what they fill, that end somewhere on the paper."""
    thick = ImageChops.multiply(picture.filter(ImageFilter.GaussianBlur(1.6)), _sheet(PAPER))
    thin = thick.point([round(88 + v * 167 / 255) for v in range(256)] * 3)
    rims = ImageChops.difference(thick.filter(ImageFilter.GaussianBlur(5)), thick).convert("L").point([min(90, 2 * v) for v in range(256)])
    return Image.composite(Image.composite(thick, thin, rims), _sheet(PAPER), wash)


def _neon(picture: Image.Image) -> Image.Image:
    """Glowing outlines in the dark, of the brightest colour nearby."""
    soft = picture.filter(ImageFilter.GaussianBlur(1.2))
    hue, saturation, _ = soft.filter(ImageFilter.MaxFilter(9)).convert("HSV").split()
    light = Image.merge("HSV", (hue, saturation.point([min(255, 2 * v) for v in range(256)]), Image.new("L", picture.size, 255))).convert("RGB")
    tubes = _outlines(soft, width=7).filter(ImageFilter.GaussianBlur(1))
    glow = tubes.filter(ImageFilter.GaussianBlur(9))
    return Image.composite(light, Image.composite(light, _sheet(DARKNESS), glow.point([v // 2 for v in range(256)])), tubes)


def _outlines(picture: Image.Image, width: int) -> Image.Image:
    """Mode L: where any channel changes within `width` pixels."""
    change = ImageChops.difference(picture.filter(ImageFilter.MaxFilter(width)), picture.filter(ImageFilter.MinFilter(width)))
    red, green, blue = change.split()
    return ImageChops.lighter(ImageChops.lighter(red, green), blue).point([min(255, max(0, 4 * (v - 24))) for v in range(256)])


def _sheet(colour: tuple[int, int, int]) -> Image.Image:
    return Image.new("RGB", (SIZE, SIZE), colour)


@lru_cache(maxsize=None)
def _wash(number: int) -> Image.Image:
    """Where the brush was: an uneven rounded square."""
    rng = np.random.default_rng(number)
    phases, depths = rng.uniform(0, 2 * np.pi, 4), rng.uniform(0.01, 0.04, 4)
    y, x = np.mgrid[-1 : 1 : SIZE * 1j, -1 : 1 : SIZE * 1j]
    rim = 0.93 + sum(depth * np.cos((i + 3) * np.arctan2(y, x) + phase) for i, (depth, phase) in enumerate(zip(depths, phases)))
    return Image.fromarray((255 * np.clip((rim - (x**4 + y**4) ** 0.25) / 0.06, 0, 1)).astype(np.uint8))
