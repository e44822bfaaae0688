"""
The pictures that the upscaler learns from: art on backgrounds, photographs, and what textures.py draws.

    python -m easel_upscale.pictures --work WORK [--count 5000]

Writes WORK/pictures.npy, uint8 [N, 256, 256, 3]. Picture i depends on i and on the art alone.
"""

import argparse
import json
import math
from pathlib import Path

import numpy as np
from PIL import Image

from . import textures

SIZE = 256
#: What a picture shows, and how often.
KINDS = {"art": 0.4, "photo": 0.24, "leaves": 0.16, "text": 0.08, "lines": 0.06, "surface": 0.06}
#: Seen by nobody before the evaluation.
HELD_OUT_PHOTOS = ("venice", "park")
#: Their lamps are so bright that the format's compression drew rings around them: only the lower half is a photograph.
LAMPS_ABOVE = ("esplanade", "hall", "lab", "lobby", "studio", "warehouse", "workshop")


class Bank:
    """The art that upscaler-art.mjs wrote."""

    def __init__(self, folder: Path, held_out: bool = False):
        name = "sprites-held-out" if held_out else "sprites-train"
        self.sprites = json.loads((folder / f"{name}.json").read_text())
        self.pixels = np.memmap(folder / f"{name}.bin", np.uint8, "r")
        self.fonts = sorted((folder / "fonts").glob("*.woff"))
        photos = sorted((folder / "photos").glob("*.exr"))
        self.photos = [read_exr(path) for path in photos if (path.stem in HELD_OUT_PHOTOS) == held_out]

    def sprite(self, rng: np.random.Generator) -> np.ndarray:
        """float32 [h, w, 4], 0…1"""
        entry = self.sprites[rng.integers(len(self.sprites))]
        width, height, offset = entry["width"], entry["height"], entry["offset"]
        pixels = np.asarray(self.pixels[offset : offset + width * height * 4]).reshape(height, width, 4)
        pixels = np.rot90(pixels, rng.choice(4, p=[0.7, 0.1, 0.1, 0.1]))
        if rng.random() < 0.5:
            pixels = pixels[:, ::-1]
        return pixels.astype(np.float32) / 255


def read_exr(path: Path) -> np.ndarray:
    """What is fit to learn from of a panorama, in linear light: float32 [H, W, 3]."""
    import OpenEXR

    with OpenEXR.File(str(path)) as file:
        light = np.asarray(file.channels()["RGB"].pixels, np.float32)[..., :3]
    return light[len(light) // 2 :] if path.stem in LAMPS_ABOVE else light


def exposed(rng: np.random.Generator, bank: Bank, side: int, size: int) -> np.ndarray:
    """`side` pixels of a photograph as a camera would have exposed it, at `size` pixels."""
    large_enough = [photo for photo in bank.photos if len(photo) >= side]
    light = large_enough[rng.integers(len(large_enough))]
    top = int(rng.integers(0, light.shape[0] - side + 1))
    # The photographs are panoramas: what leaves on the right comes in on the left.
    part = np.roll(light, int(rng.integers(light.shape[1])), 1)[top : top + side, :side]
    part = part / (np.quantile(part, rng.uniform(0.5, 0.98)) + 1e-6) * rng.uniform(0.4, 1)
    part = part * np.exp(rng.normal(0, 0.12, 3)).astype(np.float32)
    encoded = np.clip(part, 0, 1) ** (1 / 2.2)
    picture = Image.fromarray((encoded * 255 + 0.5).astype(np.uint8))
    return np.asarray(picture.resize((size, size), Image.Resampling.LANCZOS), np.float32) / 255


def photo(rng: np.random.Generator, bank: Bank) -> np.ndarray:
    """One photograph, or four that were reduced a little, so that they are as sharp as can be."""
    if rng.random() < 0.4:
        return exposed(rng, bank, SIZE, SIZE)
    quarter = SIZE // 2
    side = int(rng.uniform(1, 2) * quarter)
    four = [exposed(rng, bank, side, quarter) for _ in range(4)]
    return np.concatenate([np.concatenate(four[:2], 1), np.concatenate(four[2:], 1)], 0)


def art(rng: np.random.Generator, bank: Bank) -> np.ndarray:
    """Sprites on a background, some of them cut by the frame."""
    picture = np.array(textures.surface(rng, SIZE) if rng.random() < 0.85 else photo(rng, bank))
    for _ in range(int(rng.integers(2, 14))):
        sprite = bank.sprite(rng)
        height, width = sprite.shape[:2]
        top, left = (int(rng.integers(-extent // 2, SIZE - extent // 2)) for extent in (height, width))
        y0, x0, y1, x1 = max(0, top), max(0, left), min(SIZE, top + height), min(SIZE, left + width)
        part = sprite[y0 - top : y1 - top, x0 - left : x1 - left]
        alpha = part[..., 3:]
        picture[y0:y1, x0:x1] = picture[y0:y1, x0:x1] * (1 - alpha) + part[..., :3] * alpha
    return picture


def draw(rng: np.random.Generator, bank: Bank, kind: str | None = None) -> np.ndarray:
    """uint8 [256, 256, 3]"""
    kind = kind or str(rng.choice(list(KINDS), p=list(KINDS.values())))
    match kind:
        case "art":
            picture = art(rng, bank)
        case "photo":
            picture = photo(rng, bank)
        case "leaves":
            picture = textures.dead_leaves(rng, SIZE)
        case "text":
            picture = textures.text(rng, SIZE, bank.fonts)
        case "lines":
            picture = textures.line_art(rng, SIZE)
        case _:
            picture = (textures.clouds if rng.random() < 0.5 else textures.pattern)(rng, SIZE)
    turned = np.rot90(picture, int(rng.integers(4)) if kind in ("photo", "leaves", "lines", "surface") else 0)
    return (np.clip(turned, 0, 1) * 255 + 0.5).astype(np.uint8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True, help="folder with bank/, as upscaler-art.mjs wrote it")
    parser.add_argument("--count", type=int, default=5000)
    args = parser.parse_args()

    bank = Bank(args.work / "bank")
    unfinished = args.work / "pictures.partial.npy"
    pictures = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (args.count, SIZE, SIZE, 3))
    for i in range(args.count):
        pictures[i] = draw(np.random.default_rng([i, 7]), bank)
        if (i + 1) % 500 == 0:
            print(f"{i + 1} of {args.count} pictures", flush=True)
    pictures.flush()
    unfinished.rename(args.work / "pictures.npy")


if __name__ == "__main__":
    main()
