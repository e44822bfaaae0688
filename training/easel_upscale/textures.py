"""Pictures drawn from chance alone: what photographs and drawings have in common with it. All are float32 [H, W, 3], 0…1."""

import math
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

WORDS = (
    "the quick brown fox jumps over lazy dog Easel draws pictures 0123456789 Roma Milano 1984 café naïve über paper light "
    "and shadow line form colour QUARTZ SPHINX vow black jigsaw mixed yield 42% (see page 7) price: $3.50 http://x.y/z?q=1"
).split()


def colour(rng: np.random.Generator) -> np.ndarray:
    """Half of them muted, as in photographs, half of them bright, as in drawings."""
    if rng.random() < 0.5:
        return np.clip(rng.normal(rng.beta(1.2, 1.2), 0.08, 3), 0, 1).astype(np.float32)
    return rng.random(3, dtype=np.float32)


def noise(rng: np.random.Generator, size: int, falloff: float) -> np.ndarray:
    """Gaussian noise [size, size] whose amplitude falls with frequency to this power, as 1 does in photographs; mean 0, σ 1."""
    fy = np.fft.fftfreq(size)[:, None]
    fx = np.fft.rfftfreq(size)[None]
    # Stretched in one direction, it is wood, water or cloth.
    angle, stretch = rng.uniform(0, math.pi), 1 if rng.random() < 0.6 else rng.uniform(1, 6)
    along, across = fy * math.sin(angle) + fx * math.cos(angle), fx * math.sin(angle) - fy * math.cos(angle)
    radius = np.hypot(along * stretch, across)
    radius[0, 0] = 1
    spectrum = (rng.normal(size=radius.shape) + 1j * rng.normal(size=radius.shape)) / radius**falloff
    spectrum[0, 0] = 0
    field = np.fft.irfft2(spectrum, s=(size, size))
    return (field / (field.std() + 1e-9)).astype(np.float32)


def clouds(rng: np.random.Generator, size: int) -> np.ndarray:
    """Noise between two colours; sometimes cut into bands with hard edges, as an agate."""
    field = noise(rng, size, rng.uniform(0.7, 2.2))
    if rng.random() < 0.4:
        field = np.sin(field * rng.uniform(1, 5))
    if rng.random() < 0.3:
        field = np.round(field * rng.uniform(0.7, 2.5))
    t = np.clip(0.5 + field * rng.uniform(0.1, 0.4), 0, 1)[..., None]
    return colour(rng) * (1 - t) + colour(rng) * t


def gradient(rng: np.random.Generator, size: int) -> np.ndarray:
    y, x = np.mgrid[0:size, 0:size].astype(np.float32) / size
    angle = rng.uniform(0, 2 * math.pi)
    t = x * math.cos(angle) + y * math.sin(angle) if rng.random() < 0.6 else np.hypot(x - rng.random(), y - rng.random())
    t = (t - t.min()) / (np.ptp(t) + 1e-6)
    return colour(rng) * (1 - t[..., None]) + colour(rng) * t[..., None]


def plain(rng: np.random.Generator, size: int) -> np.ndarray:
    return np.broadcast_to(colour(rng), (size, size, 3)).astype(np.float32)


def pattern(rng: np.random.Generator, size: int) -> np.ndarray:
    """Stripes, checks, rings or dots with smooth one-pixel edges: the finest need about two pixels of the small picture."""
    y, x = np.mgrid[0:size, 0:size].astype(np.float32)
    angle = rng.choice([0, math.pi / 2, math.pi / 4, rng.uniform(0, math.pi)])
    u, v = x * math.cos(angle) + y * math.sin(angle), y * math.cos(angle) - x * math.sin(angle)
    period = float(np.exp(rng.uniform(math.log(4), math.log(64))))
    wave = lambda s, duty=0.0: np.clip((np.sin(s * 2 * math.pi / period) - duty) * period / (2 * math.pi) + 0.5, 0, 1)
    kind = rng.integers(4)
    if kind == 0:
        t = wave(u, rng.uniform(-0.7, 0.7))
    elif kind == 1:
        a, b = wave(u), wave(v)
        t = a * (1 - b) + b * (1 - a)
    elif kind == 2:
        t = wave(np.hypot(x - rng.uniform(0, size), y - rng.uniform(0, size)))
    else:
        centre = np.hypot((u % period) - period / 2, (v % period) - period / 2)
        t = np.clip(period * rng.uniform(0.15, 0.45) - centre + 0.5, 0, 1)
    return colour(rng) * (1 - t[..., None]) + colour(rng) * t[..., None]


SURFACES = (plain, gradient, clouds, pattern)


def surface(rng: np.random.Generator, size: int) -> np.ndarray:
    return SURFACES[rng.choice(4, p=[0.25, 0.3, 0.35, 0.1])](rng, size)


def _supersampled(size: int) -> tuple[Image.Image, ImageDraw.ImageDraw, int]:
    mask = Image.new("L", (size * 3, size * 3), 0)
    return mask, ImageDraw.Draw(mask), size * 3


def shape_mask(rng: np.random.Generator, size: int, x: float, y: float, radius: float) -> np.ndarray:
    """One filled figure [size, size], 0…1, with smooth edges."""
    mask, draw, _ = _supersampled(size)
    x, y, radius = x * 3, y * 3, radius * 3
    kind = rng.integers(3)
    if kind == 0:
        squeeze = rng.uniform(0.4, 1)
        draw.ellipse((x - radius, y - radius * squeeze, x + radius, y + radius * squeeze), fill=255)
    else:
        corners = int(rng.integers(3, 9))
        turn = rng.uniform(0, 2 * math.pi)
        at = [turn + 2 * math.pi * (i + rng.uniform(-0.3, 0.3)) / corners for i in range(corners)]
        reach = [radius * (rng.uniform(0.4, 1) if kind == 2 else 1) for _ in at]
        draw.polygon([(x + r * math.cos(a), y + r * math.sin(a)) for a, r in zip(at, reach)], fill=255)
    return np.asarray(mask.resize((size, size), Image.Resampling.BOX), np.float32) / 255


def dead_leaves(rng: np.random.Generator, size: int) -> np.ndarray:
    """
    Figures that hide each other, their radii after a power law: the occlusions of photographs (Lee, Mumford & Huang 2001),
    on which networks learn to restore photographs nearly as well as on those (Achddou, Gousseau & Ladjal 2021).
    """
    picture = surface(rng, size)
    smallest, largest = rng.uniform(2, 8), size * rng.uniform(0.15, 0.5)
    for _ in range(int(rng.integers(25, 70))):
        # Inverse-cube radii between the two bounds.
        u = rng.random()
        radius = (smallest**-2 + u * (largest**-2 - smallest**-2)) ** -0.5 if rng.random() < 0.6 else rng.uniform(smallest, largest)
        mask = shape_mask(rng, size, rng.uniform(0, size), rng.uniform(0, size), radius)[..., None]
        leaf = surface(rng, size) if radius > 14 else plain(rng, size)
        picture = picture * (1 - mask) + leaf * mask
    if rng.random() < 0.5:
        grain = noise(rng, size, rng.uniform(0, 1))[..., None]
        picture = picture + grain * rng.uniform(0, 0.06)
    return np.clip(picture, 0, 1)


def line_art(rng: np.random.Generator, size: int) -> np.ndarray:
    """Curves and outlines of a few pixels' width."""
    mask, draw, large = _supersampled(size)
    for _ in range(int(rng.integers(4, 22))):
        width = int(rng.uniform(2, 16))
        points = np.cumsum(rng.normal(0, large / 9, (int(rng.integers(2, 5)), 2)), 0) + rng.uniform(0, large, 2)
        kind = rng.random()
        if kind < 0.5:
            t = np.linspace(0, 1, 24)[:, None]
            a, b, c = points[0], points[1], points[-1]
            curve = (1 - t) ** 2 * a + 2 * t * (1 - t) * b + t**2 * c
            draw.line([tuple(p) for p in curve], fill=255, width=width, joint="curve")
        elif kind < 0.75:
            draw.line([tuple(p) for p in points], fill=255, width=width, joint="curve")
        else:
            (x, y), r = points[0], rng.uniform(8, large / 4)
            draw.ellipse((x - r, y - r, x + r, y + r), outline=255, width=width)
    t = np.asarray(mask.resize((size, size), Image.Resampling.BOX), np.float32)[..., None] / 255
    return surface(rng, size) * (1 - t) + (plain if rng.random() < 0.8 else surface)(rng, size) * t


def text(rng: np.random.Generator, size: int, fonts: list[Path]) -> np.ndarray:
    """Lines of words in several sizes."""
    mask = Image.new("L", (size, size), 0)
    draw = ImageDraw.Draw(mask)
    y = rng.uniform(-10, 10)
    font_size = float(np.exp(rng.uniform(math.log(11), math.log(90))))
    while y < size:
        font = ImageFont.truetype(str(fonts[rng.integers(len(fonts))]), font_size)
        words = " ".join(rng.choice(WORDS, 14))
        draw.text((rng.uniform(-20, 10), y), words, fill=255, font=font)
        y += font_size * rng.uniform(1.1, 1.5)
        if rng.random() < 0.3:
            font_size = float(np.exp(rng.uniform(math.log(11), math.log(90))))
    if rng.random() < 0.25:
        mask = mask.rotate(rng.uniform(-30, 30), Image.Resampling.BICUBIC)
    t = np.asarray(mask, np.float32)[..., None] / 255
    background = surface(rng, size) if rng.random() < 0.5 else plain(rng, size)
    return background * (1 - t) + plain(rng, size) * t
