"""From a picture to the small one that someone might have: reduced, perhaps blurred, noisy or compressed."""

import io

import numpy as np
from PIL import Image, ImageFilter

FILTERS = {
    Image.Resampling.BICUBIC: 0.3,
    Image.Resampling.BOX: 0.25,
    Image.Resampling.LANCZOS: 0.2,
    Image.Resampling.HAMMING: 0.1,
    Image.Resampling.BILINEAR: 0.15,
}


def reduce(picture: np.ndarray, factor: int, resampling: Image.Resampling) -> np.ndarray:
    """uint8 [H, W, 3], H and W multiples of `factor`."""
    height, width = picture.shape[:2]
    return np.asarray(Image.fromarray(picture).resize((width // factor, height // factor), resampling))


def compress(picture: np.ndarray, quality: int, subsampling: int = 0) -> np.ndarray:
    """There and back through JPEG."""
    file = io.BytesIO()
    Image.fromarray(picture).save(file, "JPEG", quality=quality, subsampling=subsampling)
    return np.asarray(Image.open(file))


def degrade(picture: np.ndarray, factor: int, rng: np.random.Generator) -> np.ndarray:
    """
    Half of the small pictures are only reduced. The others are mildly spoiled, as by a lens, an autoencoder, a sensor or a
    JPEG of a web page; who has worse wants restoration, which draws what it cannot know.
    """
    filters = list(FILTERS)
    resampling = filters[rng.choice(len(filters), p=list(FILTERS.values()))]
    spoiled = rng.random() < 0.5
    if spoiled and rng.random() < 0.5:
        blur = ImageFilter.GaussianBlur(float(rng.uniform(0.2, 0.9)) * factor)
        picture = np.asarray(Image.fromarray(picture).filter(blur))
    small = reduce(picture, factor, resampling)
    if spoiled and rng.random() < 0.35:
        one_for_all = rng.random() < 0.5
        noise = rng.normal(0, rng.uniform(0.5, 6), (*small.shape[:2], 1 if one_for_all else 3))
        small = np.clip(small + noise + 0.5, 0, 255).astype(np.uint8)
    if spoiled and rng.random() < 0.5:
        small = compress(small, int(rng.integers(60, 96)), int(rng.choice([0, 2])))
    return small
