"""What every noun looks like: a short code made from the autoencoder's latents of its drawing.

    python -m easel_sketch.appearance --work WORK

The text encoders are taught to give these codes with the words, as CLIP's learned from pictures what words look like. The transformer then learns
one task, to draw a code somewhere, from all things together, and not each thing from its own few pictures.
"""

import argparse
import random
from pathlib import Path

import numpy as np
import torch

from . import autoencoder
from .bank import ArtBank
from .common import DEVICE, to_tensor
from .scenes import Scene, Thing
from .vocabulary import NOUNS

LENGTH = 128
GROUND = "plain gray"


def make(work: Path) -> None:
    """Writes appearance.npy, [nouns, LENGTH]: principal components of unit mean square, the first of all the greatest."""
    bank, model = ArtBank(work), autoencoder.load(work).to(DEVICE)
    # Painted red too where that is possible, so that the code tells what a colour word changes.
    looks = [torch.cat([_latents(bank, model, noun, None), _latents(bank, model, noun, "red" if NOUNS[noun].colours else None)]) for noun in NOUNS]
    latents = torch.stack(looks)
    latents -= latents.mean(0)
    values, vectors = torch.linalg.eigh(latents @ latents.T)
    kept = values.flip(0)[:LENGTH].clamp(min=0).sqrt() * vectors.flip(1)[:, :LENGTH]
    print(f"{LENGTH} numbers a noun hold {100 * float(kept.square().sum() / latents.square().sum()):.0f} % of what tells the drawings apart")
    np.save(work / "appearance.npy", (kept / kept.square().mean().sqrt()).float().numpy())


def load(work: Path) -> torch.Tensor:
    """[nouns, LENGTH], in the order of NOUNS."""
    return torch.from_numpy(np.load(work / "appearance.npy"))


@torch.no_grad()
def _latents(bank: ArtBank, model, noun: str, colour: str | None) -> torch.Tensor:
    picture, _ = bank.render(Scene((Thing(noun, colour),), place=GROUND), random.Random(1))
    return autoencoder.encode_mean(model, to_tensor(np.stack([picture])).to(DEVICE)).flatten().double().cpu()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    make(parser.parse_args().work)
