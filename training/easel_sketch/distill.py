"""Teaches the transformer to take classifier-free guidance in one pass, as FLUX.1-dev does.

    python -m easel_sketch.distill --work WORK --steps 700

The averaged base model is the teacher. The student is told a random g through the guidance embedding and learns the true velocity
plus (g − 1)·(v(caption) − v(empty)), the difference being the teacher's: in expectation that is the guided velocity, and the student
goes on learning from the pictures at the same time.
"""

import argparse
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import autoencoder, flow
from .common import Average, learning_rate, load_checkpoint, save_checkpoint
from .transformer import Batches, averaged, draw_sheet, noised, optimizers

LOWEST, HIGHEST = 1.0, 6.0


def train(options: argparse.Namespace) -> None:
    work, steps = options.work, options.steps
    torch.manual_seed(9)
    shape = {"heads": options.heads, "double": options.double, "single": options.single}
    teacher = averaged(work, options.teacher, **shape).requires_grad_(False)
    student = averaged(work, options.teacher, **shape).train()
    made = optimizers(student, options.muon)
    average = Average(student, 0.995)
    checkpoint = work / f"{options.name}.pt"
    start = 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        student.load_state_dict(state["model"])
        average.load_state_dict(state["average"])
        start = state["step"]
    stop = min(steps, start + options.part)
    batches = Batches(work, seed=900 + start)
    decoder = autoencoder.load(work).decoder
    empty_context, empty_pooled = batches.encode([""])
    run_teacher, run_student = torch.compile(teacher, dynamic=False), torch.compile(student, dynamic=False)
    recent, started = [], time.time()

    for step in range(start, stop):
        rate = learning_rate(step, steps, options.rate, warmup=50, decay_from=0.3)
        for optimizer in made:
            for group in optimizer.param_groups:
                group["lr"] = rate
        clean, context, pooled = batches.next(options.batch, empty_share=0.0)
        noise, t = batches.noise_and_times(clean)
        x = noised(clean, noise, t)
        count = len(clean)
        scale = LOWEST + (HIGHEST - LOWEST) * torch.rand(count, generator=batches.generator)
        with torch.autocast("cpu", torch.bfloat16):
            with torch.no_grad():
                ones = torch.ones(count)
                blank = _teacher_velocity(run_teacher, x, t, empty_context.expand_as(context), empty_pooled.expand_as(pooled), ones)
                direction = _teacher_velocity(run_teacher, x, t, context, pooled, ones) - blank
            guided = noise - clean + (scale - 1)[:, None, None] * direction
            v = flow.velocity(run_student, x, t, context, pooled, scale)
        loss = F.mse_loss(v.float(), guided)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(student.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        average.update(student)
        recent.append(loss.item())
        if step % 50 == 49:
            print(f"step {step + 1} loss {np.mean(recent):.4f} {(step + 1 - start) * options.batch / (time.time() - started):.0f} samples/s", flush=True)
            recent = []
        if step % 200 == 199 or step + 1 == stop:
            save_checkpoint(checkpoint, model=student.state_dict(), average=average.state_dict(), step=step + 1)
    shown = flow.build(**shape).eval()
    average.copy_to(shown)
    draw_sheet(work / f"sheets/{options.name}-{stop:05d}.png", shown, decoder, batches, guidance=4.0, distilled=True)


def _teacher_velocity(model, *inputs: torch.Tensor) -> torch.Tensor:
    return flow.velocity(model, *inputs).float()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--teacher", default="transformer", help="checkpoint of the base model")
    parser.add_argument("--name", default="distilled", help="of the student's checkpoint and sheet")
    parser.add_argument("--steps", type=int, default=700, help="length of the whole run")
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--rate", type=float, default=3e-4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=4)
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True)
    torch.set_num_threads(2)
    train(parser.parse_args())
