"""Distils classifier-free guidance into the transformer's guidance embedding, as in FLUX.1-dev: one pass a step instead of two.

    torchrun --standalone --nproc-per-node 2 -m easel_sketch.distil --work WORK --teacher transformer --name distilled

The teacher draws fresh captions with guidance; every step of its way from noise to picture is an example of what the student should
predict in one pass (Meng et al., "On Distillation of Guided Diffusion Models", 2023, first stage, but along the sampler's own ways, so
that no pictures are needed). The ways are kept in a pool, and each is visited a few times.
"""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F

from . import autoencoder, flow, parallel, text_encoders
from .captions import caption, load_strangers
from .common import DEVICE, Average, end_of_run, is_time_up, learning_rate, restore_training, save_sheet, save_training, to_pictures
from .scenes import MIXES, Mix, random_scene
from .transformer import SHEET_PROMPTS, averaged, optimizers

FAVOURITE, LOWEST, HIGHEST = 3.0, 1.0, 6.0  # scales of guidance
FAVOURED = 0.7  # share of the ways with the favourite one; the others have any
POOL = 40  # batches of ways that are kept


class Ways:
    """The teacher's ways from noise to pictures: points x, velocities v, times, scales of guidance and captions."""

    def __init__(self, teacher, work: Path, mix: Mix, seed: int, together: int):
        self.teacher, self.mix, self.together = teacher, mix, together
        self.tokens = text_encoders.Tokens(work)
        self.encoders = text_encoders.load(work, self.tokens).to(DEVICE)
        self.rng = random.Random(seed)
        self.generator = torch.Generator().manual_seed(seed)
        self.strangers = load_strangers(work)
        self.empty = self.encode([""])
        self.pool: list[tuple[torch.Tensor, ...]] = []

    @torch.no_grad()
    def encode(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        clip_ids, t5_ids = self.tokens(captions)
        return text_encoders.encode(self.encoders, clip_ids.to(DEVICE), t5_ids.to(DEVICE))

    @torch.no_grad()
    def draw(self) -> None:
        """Adds a batch to the pool: x and v [steps, B, G², 64], times [steps], guidance [B], context and pooled."""
        count = self.together
        context, pooled = self.encode([caption(random_scene(self.rng, mix=self.mix), self.rng, self.strangers) for _ in range(count)])
        spread = LOWEST + (HIGHEST - LOWEST) * torch.rand(count, generator=self.generator)
        scale = torch.where(torch.rand(count, generator=self.generator) < FAVOURED, FAVOURITE, spread).to(DEVICE)
        times = flow.schedule(self.rng.randint(12, 24))
        x = torch.randn(count, flow.GRID**2, flow.CHANNELS, generator=self.generator).to(DEVICE)
        points, velocities = [], []
        for now, after in zip(times[:-1], times[1:]):
            t = torch.full((count,), float(now), device=DEVICE)
            v = flow.guided(self.teacher, x, t, context, pooled, self.empty, scale)
            points.append(x)
            velocities.append(v)
            x = x + float(after - now) * v
        way = (torch.stack(points).half(), torch.stack(velocities).half(), times[:-1].to(DEVICE), scale, context, pooled)
        self.pool = [*self.pool, way][-POOL:]

    def batch(self, count: int) -> tuple[torch.Tensor, ...]:
        """x, v, t, guidance, context and pooled of `count` random points, from at most eight batches of ways."""
        parts = []
        for share in torch.arange(count).chunk(min(8, count)):
            points, velocities, times, scale, context, pooled = self.rng.choice(self.pool)
            step = torch.randint(len(times), (len(share),), generator=self.generator).to(DEVICE)
            i = torch.randint(self.together, (len(share),), generator=self.generator).to(DEVICE)
            parts.append((points[step, i].float(), velocities[step, i].float(), times[step], scale[i], context[i], pooled[i]))
        return tuple(torch.cat(column) for column in zip(*parts))


def train(options: argparse.Namespace) -> None:
    """Goes on from the checkpoint where there is one."""
    work, steps = options.work, options.steps
    torch.manual_seed(60)
    shape = {"heads": options.heads, "double": options.double, "single": options.single}
    teacher = averaged(work, options.teacher, **shape).to(DEVICE).requires_grad_(False)
    student = flow.build(**shape).to(DEVICE)
    student.load_state_dict(teacher.state_dict())
    checkpoint = work / f"{options.name}.pt"
    average, made = Average(student, 0.99), optimizers(student, options.muon)
    start = restore_training(checkpoint, student, average, made)
    stop = min(steps, start + options.part)
    compiled, drawing = (torch.compile(model, dynamic=False) if options.compile else model for model in (student, teacher))
    ways = Ways(drawing, work, MIXES[options.mix], seed=61 + 7 * start + parallel.RANK, together=options.together)
    decoder = autoencoder.load(work).decoder.to(DEVICE)
    shadow = flow.build(**shape).to(DEVICE).eval()
    sheet = ways.encode(SHEET_PROMPTS)
    recent, began = [], time.time()
    for step in range(start, stop):
        if (step - start) % options.draw_every == 0:
            ways.draw()
        rate = learning_rate(step, steps, options.rate, warmup=30, decay_from=0.4)
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = rate
        x, v, t, scale, context, pooled = ways.batch(options.batch // parallel.WORKERS)
        loss = F.mse_loss(flow.velocity(compiled, x, t, context, pooled, scale), v)
        loss.backward()
        parallel.average_gradients(student)
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update(student)
        recent.append(loss.detach())
        ends = step + 1 == stop or parallel.WORKERS == 1 and is_time_up()
        if parallel.RANK == 0 and (step % 20 == 19 or ends):
            print(f"step {step + 1} loss {torch.stack(recent).mean():.4f} {(time.time() - began) / (step + 1 - start):.2f} s/step", flush=True)
            recent = []
        if parallel.RANK == 0 and (step % options.save_every == options.save_every - 1 or ends):
            save_training(checkpoint, student, average, made, step + 1)
            average.copy_to(shadow)
            latents = flow.sample(shadow, *sheet, seed=1, steps=16, guidance=FAVOURITE)
            save_sheet(work / f"sheets/{options.name}-{step + 1:06d}.png", to_pictures(torch.cat([decoder(part) for part in latents.split(4)])), columns=8)
        if ends:
            break
    end_of_run(step + 1 if start < stop else start, stop)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--teacher", default="transformer", help="checkpoint with the teacher")
    parser.add_argument("--name", default="distilled", help="of the checkpoint and the sheets")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--mix", choices=MIXES, default="everything", help="of the scenes that captions describe")
    parser.add_argument("--draw-every", type=int, default=24, help="steps between two batches of the teacher's ways, of each worker")
    parser.add_argument("--together", type=int, default=32, help="ways that the teacher draws at a time")
    parser.add_argument("--save-every", type=int, default=100)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=4e-4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=4)
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=False)
    parallel.start()
    train(parser.parse_args())
