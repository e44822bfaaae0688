"""Distils classifier-free guidance into the transformer's guidance embedding, as in FLUX.1-dev: one pass a step instead of two.

    python -m easel_sketch.distil --work WORK --teacher transformer --name distilled

The teacher draws fresh captions with guidance; every step of its way from noise to picture is an example of what the student should
predict in one pass (Meng et al., "On Distillation of Guided Diffusion Models", 2023, first stage, but along the sampler's own paths, so
that no pictures are needed). Paths are kept in a pool, each is visited a few times.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import autoencoder, flow, text_encoders
from .captions import caption
from .common import Average, learning_rate, load_checkpoint, save_checkpoint, save_sheet, to_pictures
from .scenes import random_scene
from .transformer import SHEET_PROMPTS, averaged, optimizers

FAVOURITE, LOWEST, HIGHEST = 4.0, 1.0, 6.0  # scales of guidance; half of the paths use the first
PATHS = 24  # drawn by the teacher at a time
POOL = 40  # batches of paths kept


class Paths:
    """The teacher's ways from noise to pictures."""

    def __init__(self, teacher, work: Path, seed: int):
        self.teacher = teacher
        self.tokens = text_encoders.Tokens(work)
        self.encoders = text_encoders.load(work, self.tokens)
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.empty = self.encode([""])
        self.pool: list[tuple[torch.Tensor, ...]] = []

    @torch.no_grad()
    def encode(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        return text_encoders.encode(self.encoders, *self.tokens(captions))

    @torch.no_grad()
    def draw(self) -> None:
        """Adds a batch of paths to the pool: x and v [steps, B, G², 64], times [steps], guidance [B], context and pooled."""
        context, pooled = self.encode([caption(random_scene(self.rng), self.rng) for _ in range(PATHS)])
        favourite = torch.rand(PATHS, generator=self.generator) < 0.5
        guidance = torch.where(favourite, FAVOURITE, LOWEST + (HIGHEST - LOWEST) * torch.rand(PATHS, generator=self.generator))
        steps = self.rng.randint(12, 24)
        times = torch.cat([flow.shifted(torch.linspace(1, 1 / steps, steps)), torch.zeros(1)])
        x = torch.randn(PATHS, flow.GRID**2, 64, generator=self.generator)
        xs, vs = [], []
        for now, after in zip(times[:-1], times[1:]):
            v = guided(self.teacher, x, now, context, pooled, self.empty, guidance)
            xs.append(x)
            vs.append(v)
            x = x + (after - now) * v
        self.pool.append((torch.stack(xs).half(), torch.stack(vs).half(), times[:-1], guidance, context, pooled))
        self.pool = self.pool[-POOL:]

    def batch(self, count: int) -> tuple[torch.Tensor, ...]:
        """x, v, t, guidance, context and pooled of `count` random points on the paths."""
        rows = []
        for _ in range(count):
            xs, vs, times, guidance, context, pooled = self.rng.choice(self.pool)
            step, i = self.rng.randrange(len(times)), self.rng.randrange(PATHS)
            rows.append((xs[step, i].float(), vs[step, i].float(), times[step], guidance[i], context[i], pooled[i]))
        return tuple(torch.stack(column) for column in zip(*rows))


def guided(model, x, now, context, pooled, empty, guidance) -> torch.Tensor:
    """Two passes, with and without the caption; `guidance` is [B]."""
    t, ones = now.expand(len(x)), torch.ones(len(x))
    v = flow.velocity(model, x, t, context, pooled, ones)
    blank = flow.velocity(model, x, t, empty[0].expand_as(context), empty[1].expand_as(pooled), ones)
    return blank + guidance[:, None, None] * (v - blank)


@torch.no_grad()
def draw(student, context, pooled, seed: int, steps: int, guidance: float) -> torch.Tensor:
    """One pass a step: latents [B, 16, 16, 16]."""
    count = len(context)
    x = torch.stack([torch.randn(flow.GRID**2, 64, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)])
    times = torch.cat([flow.shifted(torch.linspace(1, 1 / steps, steps)), torch.zeros(1)])
    for now, after in zip(times[:-1], times[1:]):
        x = x + (after - now) * flow.velocity(student, x, now.expand(count), context, pooled, torch.full((count,), guidance))
    return flow.unpack(x)


def train(options: argparse.Namespace) -> None:
    work, steps = options.work, options.steps
    torch.manual_seed(60)
    shape = {"heads": options.heads, "double": options.double, "single": options.single}
    teacher = averaged(work, options.teacher, **shape).requires_grad_(False)
    checkpoint = work / f"{options.name}.pt"
    student = flow.build(**shape)
    student.load_state_dict(teacher.state_dict())
    average = Average(student, 0.99)
    made = optimizers(student, options.muon)
    start = 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        student.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        for optimizer, saved in zip(made, state["optimizers"]):
            optimizer.load_state_dict(saved)
        start = state["step"]
    stop = min(steps, start + options.part)
    paths = Paths(teacher, work, seed=61 + start)
    decoder = autoencoder.load(work).decoder
    shadow = flow.build(**shape).eval()
    sheet = paths.encode(SHEET_PROMPTS)
    recent, began = [], time.time()
    for step in range(start, stop):
        if (step - start) % options.draw_every == 0:
            paths.draw()
        rate = learning_rate(step, steps, options.rate, warmup=30, decay_from=0.4)
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = rate
        x, v, t, guidance, context, pooled = paths.batch(options.batch)
        loss = F.mse_loss(flow.velocity(student, x, t, context, pooled, guidance), v)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update(student)
        recent.append(loss.item())
        if step % 10 == 9:
            print(f"step {step + 1} loss {np.mean(recent):.4f} {(time.time() - began) / (step + 1 - start):.1f} s/step", flush=True)
            recent = []
        if step % 50 == 49 or step + 1 == stop:
            optimizers_state = [optimizer.state_dict() for optimizer in made]
            save_checkpoint(checkpoint, model=student.state_dict(), average=average.state_dict(), optimizers=optimizers_state, step=step + 1)
        if step % 100 == 99 or step + 1 == stop:
            average.copy_to(shadow)
            latents = draw(shadow, *sheet, seed=1, steps=16, guidance=FAVOURITE)
            save_sheet(work / f"sheets/{options.name}-{step + 1:05d}.png", to_pictures(torch.cat([decoder(part) for part in latents.split(4)])), columns=8)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--teacher", default="transformer", help="checkpoint with the teacher")
    parser.add_argument("--name", default="distilled", help="of the checkpoint and the sheets")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--draw-every", type=int, default=24, help="steps between two batches of the teacher's paths")
    parser.add_argument("--batch", type=int, default=24)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=4)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)
