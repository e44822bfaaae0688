"""Trains the transformer on cached latents.

    torchrun --standalone --nproc-per-node 2 -m easel_sketch.transformer --work WORK

Captions are written afresh for every visit of a scene; a tenth are empty, for classifier-free guidance. Every so often the log
gains a caption gap (the loss at t = 0.9 with the right and with shuffled captions; no gap means the prompt is ignored) and a sheet of
pictures is drawn from the averaged weights.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import autoencoder, flow, parallel, text_encoders
from .cache import cached_scene
from .captions import caption
from .common import Average, learning_rate, load_checkpoint, save_checkpoint, save_sheet, to_pictures
from .muon import Muon
from .vocabulary import NOUNS

SHEET_PROMPTS = [
    *(Path(__file__).parent.parent / "sample-prompts.txt").read_text().strip().splitlines(),
    "an elephant in the desert", "A yellow bird in the sky", "a strawberry on a blue background", "a castle in Paris",
    "a pink pig in a meadow", "a robot in space", "a red bicycle", "a hamburger", "a brown horse on the beach",
    "three cats", "a red car to the left of a yellow flower", "a bird above a house", "two dogs in the snow",
]  # fmt: skip
HELD_OUT = 256  # cached scenes kept for the gap
MUST_SHARE = 0.2  # of the samples: the nouns that must be recognised whatever else is not
EMPTY_SHARE = 0.1


class Batches:
    """Random cached latents with fresh captions, encoded by the frozen text encoders."""

    def __init__(self, work: Path, seed: int):
        self.latents = np.load(work / "latents.npy", mmap_mode="r")
        self.counter = work / "cached.txt"
        self.refresh()
        self.tokens = text_encoders.Tokens(work)
        self.encoders = text_encoders.load(work, self.tokens)
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)

    def refresh(self) -> None:
        """Takes in what the cache has gained meanwhile."""
        self.available = int(self.counter.read_text())
        must = np.array([NOUNS[cached_scene(i)[0].things[0].noun].must for i in range(HELD_OUT, self.available)])
        weights = np.where(must, MUST_SHARE / must.sum(), (1 - MUST_SHARE) / (~must).sum())
        self.cumulative = np.cumsum(weights)

    @torch.no_grad()
    def encode(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns context [B, 40, 256] and pooled [B, 256]."""
        return text_encoders.encode(self.encoders, *self.tokens(captions))

    def of(self, indices: list[int], empty_share: float) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Packed latents [B, 64, 64] in order of `indices`, context and pooled."""
        clean = flow.pack(torch.from_numpy(np.stack([self.latents[i] for i in indices]).astype(np.float32)))
        captions = [
            "" if self.rng.random() < empty_share else caption(cached_scene(i)[0], self.rng) for i in indices
        ]
        return clean, *self.encode(captions)

    def next(self, count: int, empty_share: float = EMPTY_SHARE):
        draws = np.searchsorted(self.cumulative, [self.rng.random() * self.cumulative[-1] for _ in range(count)])
        return self.of((HELD_OUT + draws).tolist(), empty_share)

    def noise_and_times(self, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.randn(clean.shape, generator=self.generator), flow.random_times(len(clean), self.generator)


def noised(clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return clean + t[:, None, None] * (noise - clean)


class CaptionGap:
    """Losses on held-out scenes with right and with shuffled captions, always with the same noise."""

    def __init__(self, batches: Batches):
        held = Batches.__new__(Batches)
        held.__dict__.update(batches.__dict__, rng=random.Random(77))
        self.clean, self.context, self.pooled = held.of(list(range(HELD_OUT)), 0.0)
        self.noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(7))

    @torch.no_grad()
    def __call__(self, model, at: float) -> tuple[float, float]:
        losses = []
        for shift in (0, 1):
            total = 0.0
            for part in torch.arange(HELD_OUT).split(64):
                other = (part + shift) % HELD_OUT
                clean, noise, t = self.clean[part], self.noise[part], torch.full((len(part),), at)
                v = flow.velocity(model, noised(clean, noise, t), t, self.context[other], self.pooled[other], torch.ones(len(part)))
                total += F.mse_loss(v, noise - clean).item() * len(part)
            losses.append(total / HELD_OUT)
        return losses[0], losses[1]


@torch.no_grad()
def draw_sheet(path: Path, model, decoder, batches: Batches, guidance: float, steps: int = 16) -> None:
    context, pooled = batches.encode(SHEET_PROMPTS)
    latents = flow.sample(model, context, pooled, seed=1, steps=steps, guidance=guidance, empty=batches.encode([""]))
    save_sheet(path, to_pictures(torch.cat([decoder(part) for part in latents.split(4)])), columns=8)


def optimizers(model: torch.nn.Module, muon: bool) -> list[torch.optim.Optimizer]:
    """Muon for the blocks' matrices, AdamW for everything else (or for all)."""
    matrices, rest = [], []
    for name, parameter in model.named_parameters():
        hidden = "blocks" in name and parameter.ndim == 2 and ".linear" not in name
        (matrices if muon and hidden else rest).append(parameter)
    made: list[torch.optim.Optimizer] = [torch.optim.AdamW(rest, lr=1.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)]
    if matrices:
        made.append(Muon(matrices, lr=1.0))
    return made


def train(options: argparse.Namespace) -> None:
    work, steps = options.work, options.steps
    torch.manual_seed(8)
    checkpoint = work / f"{options.name}.pt"
    model = flow.build(options.heads, options.double, options.single)
    average = Average(model, 0.998)
    made = optimizers(model, options.muon)
    start = 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        model.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(made, state["optimizers"]):
            optimizer.load_state_dict(saved)
        start = state["step"]
    elif options.start_from:
        model.load_state_dict(load_checkpoint(options.start_from)["model"])
        average = Average(model, 0.998)
    stop = min(steps, start + options.part)
    batches = Batches(work, seed=100 + 7 * start + parallel.RANK)
    gap = CaptionGap(batches)
    decoder = autoencoder.load(work).decoder
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f} M parameters, {batches.available} scenes, from step {start}", flush=True)
    compiled = torch.compile(model, dynamic=False) if options.compile else model
    shadow = flow.build(options.heads, options.double, options.single).eval()
    recent, started = [], time.time()

    for step in range(start, stop):
        rate = learning_rate(step, steps, options.rate, warmup=options.warmup, decay_from=options.decay_from)
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = rate
        clean, context, pooled = batches.next(options.batch // parallel.WORKERS)
        noise, t = batches.noise_and_times(clean)
        v = flow.velocity(compiled, noised(clean, noise, t), t, context, pooled, torch.ones(len(t)))
        loss = F.mse_loss(v, noise - clean)
        loss.backward()
        parallel.average_gradients(model)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update(model)
        recent.append(loss.item())
        if parallel.RANK > 0:
            continue
        if step % 25 == 24:
            batches.refresh()
            rate_of = (step + 1 - start) * options.batch / (time.time() - started)
            print(f"step {step + 1} ({(step + 1) * options.batch} samples) loss {np.mean(recent):.4f} {rate_of:.0f} samples/s", flush=True)
            recent = []
        if step % 100 == 99 or step + 1 == stop:
            save_checkpoint(
                checkpoint, model=model.state_dict(), average=average.state_dict(), optimizers=[o.state_dict() for o in made], step=step + 1
            )
            average.copy_to(shadow)
            gaps = {at: gap(shadow, at) for at in (0.5, 0.9)}
            print("  gap " + ", ".join(f"t={at}: {a:.4f} right {b:.4f} shuffled" for at, (a, b) in gaps.items()), flush=True)
        if step % 200 == 199 or step + 1 == stop:
            draw_sheet(work / f"sheets/{options.name}-{step + 1:05d}.png", shadow, decoder, batches, guidance=4.0)


def averaged(work: Path, name: str, **shape: int):
    """The averaged transformer of checkpoint `name`."""
    state = load_checkpoint(work / f"{name}.pt")
    model = flow.build(**shape)
    model.load_state_dict(state["model"])
    for key, parameter in model.named_parameters():
        parameter.data.copy_(state["average"]["values"][key])
    return model.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="transformer", help="of the checkpoint and the sheets")
    parser.add_argument("--steps", type=int, default=2300, help="length of the whole run")
    parser.add_argument("--start-from", type=Path, help="checkpoint whose weights to begin with")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decay-from", type=float, default=0.6, help="share of the run after which the rate decays")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=4)
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parallel.start()
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)
