"""
Trains the upscaler on one CPU thread.

    python -m easel_upscale.train --work WORK --factor 4 --steps 12000

Goes on from WORK/upscale-xFACTOR.pt when it is there; `--part STEPS` stops early. Batch i is the same in every run.
`--start-from` takes the layers that fit from another factor's checkpoint.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch

from easel_sketch.common import Average, learning_rate, load_checkpoint, save_checkpoint

from .degrade import degrade
from .network import CompactUpscaler

BATCH = 8
#: Side of the small pictures, in pixels.
PATCH = 48
#: How much the differences between neighbouring pixels count beside the pixels.
EDGE_WEIGHT = 0.2


def batch(pictures: np.ndarray, step: int, factor: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Small and large patches, [B, 3, H, W] in 0…1."""
    rng = np.random.default_rng([step, factor, 11])
    small, large = [], []
    side = PATCH * factor
    for _ in range(BATCH):
        picture = pictures[rng.integers(len(pictures))]
        top, left = (int(rng.integers(0, extent - side + 1)) for extent in picture.shape[:2])
        patch = np.rot90(picture[top : top + side, left : left + side], int(rng.integers(4)))
        patch = np.ascontiguousarray(patch[:, ::-1] if rng.random() < 0.5 else patch)
        large.append(patch)
        small.append(degrade(patch, factor, rng))
    return tuple(torch.from_numpy(np.stack(x)).permute(0, 3, 1, 2).float().div(255) for x in (small, large))


def loss_of(guess: torch.Tensor, truth: torch.Tensor) -> torch.Tensor:
    difference = guess - truth
    edges = difference.diff(dim=-1).abs().mean() + difference.diff(dim=-2).abs().mean()
    return difference.abs().mean() + EDGE_WEIGHT * edges


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--factor", type=int, choices=(2, 4), default=4)
    parser.add_argument("--steps", type=int, default=9000, help="of the whole run")
    parser.add_argument("--part", type=int, help="steps of this call")
    parser.add_argument("--start-from", type=Path)
    parser.add_argument("--features", type=int, default=32)
    parser.add_argument("--depth", type=int, default=10)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--name")
    args = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)

    pictures = np.load(args.work / "pictures.npy", mmap_mode="r")
    model = CompactUpscaler(args.features, args.depth, args.factor).to(memory_format=torch.channels_last)
    path = args.work / f"{args.name or f'upscale-x{args.factor}'}.pt"
    if args.start_from and not path.exists():
        known = load_checkpoint(args.start_from)["average"]["values"]
        own = model.state_dict()
        model.load_state_dict({k: known[k] if k in known and known[k].shape == v.shape else v for k, v in own.items()})
    average = Average(model, 0.999)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.rate, betas=(0.9, 0.99))
    step, cpu_seconds = 0, 0.0
    if path.exists():
        saved = load_checkpoint(path)
        model.load_state_dict(saved["model"])
        average.load_state_dict(saved["average"])
        optimizer.load_state_dict(saved["optimizer"])
        step, cpu_seconds = saved["step"], saved["cpu_seconds"]

    def save() -> None:
        states = {"model": model.state_dict(), "average": average.state_dict(), "optimizer": optimizer.state_dict()}
        size = {"features": args.features, "depth": args.depth, "factor": args.factor}
        spent = cpu_seconds + time.process_time()
        save_checkpoint(path, **states, **size, step=step, cpu_seconds=spent)

    end = min(args.steps, step + (args.part or args.steps))
    recent: list[float] = []
    while step < end:
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, args.steps, args.rate, decay_from=0.5)
        small, large = batch(pictures, step, args.factor)
        loss = loss_of(model(small.contiguous(memory_format=torch.channels_last)), large)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        step += 1
        recent.append(loss.item())
        if step % 100 == 0:
            minutes = (cpu_seconds + time.process_time()) / 60
            print(f"step {step}: loss {np.mean(recent):.5f}, {minutes:.1f} CPU minutes", flush=True)
            recent.clear()
        if step % 500 == 0:
            save()
    save()


if __name__ == "__main__":
    main()
