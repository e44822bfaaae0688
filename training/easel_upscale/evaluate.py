"""
Compares ways to enlarge pictures that no training has seen.

    python -m easel_upscale.evaluate --work WORK --models ../models/easel-upscale [--peers FOLDER/node_modules] [--scale 4]

The pictures are made smaller, enlarged, and compared with what they were: PSNR and SSIM (more is better) and GMSD, how
unequally well the edges are kept (Xue et al. 2014; less is better). Prints Markdown tables: PSNR in dB · SSIM · GMSD.
"""

import argparse
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from . import pictures
from .degrade import compress, reduce
from .network import CompactUpscaler
from .peers import Peer

Method = Callable[[np.ndarray], np.ndarray]
#: How the small pictures were made.
CONDITIONS = {
    "reduced": lambda picture, scale: reduce(picture, scale, Image.Resampling.BICUBIC),
    "JPEG 80": lambda picture, scale: compress(reduce(picture, scale, Image.Resampling.BOX), 80, 2),
}


def interpolation(scale: int, resampling: Image.Resampling) -> Method:
    return lambda small: np.asarray(
        Image.fromarray(small).resize((small.shape[1] * scale, small.shape[0] * scale), resampling)
    )


def network(path: Path, reduction: int = 1) -> Method:
    """A compact network, its result averaged in blocks of `reduction` pixels."""
    weights = {name: value.float() for name, value in load_file(path).items()}
    last = max(int(name.split(".")[1]) for name in weights)
    factor = round((weights[f"body.{last}.bias"].numel() / 3) ** 0.5)
    model = CompactUpscaler(weights["body.0.bias"].numel(), last // 2 - 1, factor)
    model.load_state_dict(weights)

    @torch.no_grad()
    def enlarge(small: np.ndarray) -> np.ndarray:
        x = torch.from_numpy(small.copy()).permute(2, 0, 1)[None].float() / 255
        y = model(x).clamp(0, 1)
        if reduction > 1:
            y = torch.nn.functional.avg_pool2d(y, reduction)
        return (y[0].permute(1, 2, 0) * 255).round().byte().numpy()

    return enlarge


def photographs() -> list[np.ndarray]:
    """What scikit-image and scikit-learn ship; for evaluation only."""
    import skimage.data
    from sklearn.datasets import load_sample_images

    found = [getattr(skimage.data, name)() for name in ("astronaut", "coffee", "chelsea")] + load_sample_images().images
    return [np.ascontiguousarray(middle(np.asarray(picture)[..., :3], 384)) for picture in found]


def middle(picture: np.ndarray, side: int) -> np.ndarray:
    height, width = (min(extent, side) // 8 * 8 for extent in picture.shape[:2])
    top, left = (picture.shape[0] - height) // 2, (picture.shape[1] - width) // 2
    return picture[top : top + height, left : left + width]


def held_out(bank: pictures.Bank) -> dict[str, list[np.ndarray]]:
    draw = lambda kind, count: [pictures.draw(np.random.default_rng([i, 101]), bank, kind) for i in range(count)]
    return {
        "photographs": photographs() + draw("photo", 6),
        "drawings": draw("art", 16),
        "text and lines": draw("text", 6) + draw("lines", 6),
    }


def gradient_magnitude(grey: np.ndarray) -> np.ndarray:
    """Prewitt's, as GMSD takes it."""
    three = lambda x, axis: (np.roll(x, 1, axis) + x + np.roll(x, -1, axis)) / 3
    slope = lambda x, axis: np.roll(x, 1, axis) - np.roll(x, -1, axis)
    return np.hypot(slope(three(grey, 0), 1), slope(three(grey, 1), 0))[1:-1, 1:-1]


def gmsd(guess: np.ndarray, truth: np.ndarray) -> float:
    """Gradient magnitude similarity deviation of two pictures, in grey and at half their size, as published."""
    halved = [np.asarray(Image.fromarray(x).convert("L").reduce(2), np.float32) for x in (guess, truth)]
    a, b = (gradient_magnitude(x) for x in halved)
    return float(((2 * a * b + 170) / (a**2 + b**2 + 170)).std())


def score(method: Method, truths: list[np.ndarray], condition: Callable, scale: int) -> tuple[float, float, float]:
    scores = []
    for truth in truths:
        guess = method(condition(truth, scale))
        psnr = min(60.0, peak_signal_noise_ratio(truth, guess))
        ssim = structural_similarity(truth, guess, channel_axis=2, gaussian_weights=True, use_sample_covariance=False)
        scores.append((psnr, ssim, gmsd(guess, truth)))
    return tuple(np.mean(scores, 0))


def methods_for(scale: int, args: argparse.Namespace) -> dict[str, Method]:
    methods: dict[str, Method] = {
        "bicubic": interpolation(scale, Image.Resampling.BICUBIC),
        "Lanczos": interpolation(scale, Image.Resampling.LANCZOS),
    }
    if args.peers:
        for size in ("slim", "medium", "thick"):
            folder = args.peers / f"@upscalerjs/esrgan-{size}/models/x{scale}"
            methods[f"esrgan-{size}"] = Peer(folder, 1.0 if size == "thick" else 255.0)
    for file in args.candidates or sorted(args.models.glob("*.safetensors")):
        factor = 4 if "x4" in file.name else 2
        if factor == scale:
            methods[f"{file.stem} of {file.parent.name}"] = network(file)
        elif factor == 4:
            methods[f"{file.stem} of {file.parent.name}, halved"] = network(file, 2)
    return methods


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--models", type=Path, default=Path("../models/easel-upscale"))
    parser.add_argument("--candidates", type=Path, nargs="*", help="files to compare instead of the models'")
    parser.add_argument("--peers", type=Path, help="node_modules with @upscalerjs/esrgan-*")
    parser.add_argument("--scale", type=int, choices=(2, 4), nargs="*", default=(2, 4))
    args = parser.parse_args()
    torch.set_num_threads(1)

    sets = held_out(pictures.Bank(args.work / "bank", held_out=True))
    columns = [f"{kind}, {condition}" for kind in sets for condition in CONDITIONS]
    for scale in args.scale:
        print(f"\n| ×{scale} | {' | '.join(columns)} |\n|---{'|---' * len(columns)}|")
        for name, method in methods_for(scale, args).items():
            cells = [cell(*score(method, truths, shrink, scale)) for truths in sets.values() for shrink in CONDITIONS.values()]
            print(f"| {name} | {' | '.join(cells)} |", flush=True)


def cell(psnr: float, ssim: float, edges: float) -> str:
    return f"{psnr:.2f} · {ssim:.3f} · {edges:.3f}"


if __name__ == "__main__":
    main()
