"""
The picture of docs/upscaling.md: a drawing and a photograph that no training has seen, side by side as they were made four
times as small, as Lanczos' filter and as the network enlarge that, and as they were.

    python -m easel_upscale.before_after --work WORK --to ../docs/upscaling.webp
"""

import argparse
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import pictures
from .degrade import reduce
from .evaluate import held_out, interpolation, network

FACTOR = 4
#: Which of the held-out pictures, and the top left corner of what is shown of them.
SHOWN = {"drawings": (11, (0, 0)), "photographs": (2, (8, 72))}
SIDE = 256


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, default=Path("../models/easel-upscale/x4.safetensors"))
    parser.add_argument("--to", type=Path, required=True)
    args = parser.parse_args()
    torch.set_num_threads(1)

    sets = held_out(pictures.Bank(args.work / "bank", held_out=True))
    methods = [interpolation(FACTOR, Image.Resampling.NEAREST), interpolation(FACTOR, Image.Resampling.LANCZOS)]
    methods.append(network(args.model))
    rows = []
    for kind, (index, (top, left)) in SHOWN.items():
        truth = sets[kind][index]
        small = reduce(truth, FACTOR, Image.Resampling.BICUBIC)
        versions = [method(small) for method in methods] + [truth]
        rows.append(np.concatenate([version[top : top + SIDE, left : left + SIDE] for version in versions], 1))
    Image.fromarray(np.concatenate(rows, 0)).save(args.to, quality=90, method=6)


if __name__ == "__main__":
    main()
