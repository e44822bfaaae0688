"""Trains the transformer on cached latents.

    torchrun --standalone --nproc-per-node 2 -m easel_sketch.transformer --work WORK

Captions are written afresh for every visit of a scene; a tenth are empty, for classifier-free guidance. Every so often the log gains a
caption gap (the loss at t = 0.9 with the right and with shuffled captions; no gap means the prompt is ignored) and a sheet of pictures
is drawn from the averaged weights. With `--plan` the transformer must tell what stands where. With `--read` the text encoders go on
learning: from the pictures, and to read. With `--unpooled` some samples come without the pooled vector, which names one thing only: so
the transformer learns to draw from the context, which names all.
"""

import argparse
import random
import time
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from . import autoencoder, flow, parallel, planning, reading, text_encoders
from .cache import cached_scenes
from .captions import Span, load_strangers, named_caption
from .common import (
    DEVICE,
    Average,
    averaged_weights,
    end_of_run,
    is_time_up,
    learning_rate,
    load_checkpoint,
    restore_training,
    save_sheet,
    save_training,
    to_pictures,
)
from .lessons import Learner, Lessons
from .muon import Muon
from .planning import Planner
from .scenes import COMMON, Scene
from .tokenizers import T5_LENGTH
from .vocabulary import NOUNS

SHEET_PROMPTS = [
    *(Path(__file__).parent.parent / "sample-prompts.txt").read_text().strip().splitlines(),
    "an elephant in the desert", "A yellow bird in the sky", "a strawberry on a blue background", "a castle in Paris",
    "a pink pig in a meadow", "a robot in space", "a red bicycle", "three apples", "a brown horse on the beach",
    "a green cat and a red dog", "a bird above a house", "a house and a tree",
]  # fmt: skip
HELD_OUT = 256  # cached scenes kept for the gap
MUST_SHARE = 0.14  # of the samples: the nouns that must be recognised whatever else is not
EMPTY_SHARE = 0.1
GATE, LEAST_GAP = 20_000, 0.05  # by so many samples, a shuffled caption must cost so much more


class Visits(torch.utils.data.IterableDataset):
    """Endless batches of cached latents with freshly written captions: latents [B, 16, 16, 16], CLIP ids and T5 ids."""

    def __init__(self, work: Path, batch: int, first: int, first_share: float, alone: float | None, words: int, seed: int):
        self.latents = np.load(work / "latents.npy", mmap_mode="r")
        self.covered, self.standing = (np.load(work / name, mmap_mode="r") for name in ("covered.npy", "standing.npy"))
        self.scenes = cached_scenes(work)
        self.tokens = text_encoders.Tokens(work)
        self.strangers = load_strangers(work)
        self.count, self.words, self.seed = batch, words, seed
        self.cumulative = np.cumsum(self._weights(set(list(NOUNS)[:first]), first_share, alone))

    def _weights(self, first: set[str], first_share: float, alone: float | None) -> np.ndarray:
        """Of the cached scenes, by what is named first in each, and whether it is alone."""
        nouns = [scene.things[0].noun for scene in self.scenes[HELD_OUT:]]
        group = np.array([0 if NOUNS[noun].must else 1 if noun in first else 2 for noun in nouns])
        shares = np.array([MUST_SHARE, first_share, 1 - MUST_SHARE - first_share])
        weights = (shares / np.maximum(1, np.bincount(group, minlength=3)))[group]
        if alone is None:
            return weights
        single = np.array([len(scene.things) == 1 and scene.things[0].count == 1 for scene in self.scenes[HELD_OUT:]])
        return np.where(single, alone / weights[single].sum(), (1 - alone) / weights[~single].sum()) * weights

    def __iter__(self):
        worker = torch.utils.data.get_worker_info()
        rng = random.Random(1000 * self.seed + (worker.id if worker else 0))
        while True:
            draws = np.searchsorted(self.cumulative, [rng.random() * self.cumulative[-1] for _ in range(self.count)])
            yield self.of((HELD_OUT + draws).tolist(), EMPTY_SHARE, self.words, rng)

    def of(self, indices: list[int], empty_share: float, words: int, rng: random.Random) -> tuple[torch.Tensor, ...]:
        """Captions of at most `words` T5 tokens, padded to these.

        Also how much of each token is drawing, [B, 64] in 0…1, what stands there, as `planning` has it, [B, 64, OF_CELLS], and the answers that the
        captions give, as `reading` has them: [B, T, OF_THINGS] and [B, OF_POOLED].
        """
        empty = [rng.random() < empty_share for _ in indices]
        captions, spans = zip(*(("", []) if none else self._caption(self.scenes[i], words, rng) for i, none in zip(indices, empty)))
        offsets = [those[:words] for those in self.tokens.offsets(list(captions))]
        of_tokens = [reading.about_tokens(self.scenes[i], named, places) for i, named, places in zip(indices, spans, offsets)]
        of_scenes = [reading.about_nothing() if none else reading.about_scene(self.scenes[i]) for i, none in zip(indices, empty)]
        latents = torch.from_numpy(np.stack([self.latents[i] for i in indices]))
        covered = torch.from_numpy(np.stack([self.covered[i] for i in indices])).flatten(1) / 255
        clip_ids, t5_ids = self.tokens(list(captions))
        of_cells = torch.tensor([planning.about_cells(self.scenes[i], self.standing[i].flatten().tolist()) for i in indices])
        of_cells[torch.tensor(empty)] = reading.UNASKED
        return latents, clip_ids, t5_ids[:, :words], covered, of_cells, torch.tensor(of_tokens), torch.tensor(of_scenes)

    def _caption(self, scene: Scene, words: int, rng: random.Random) -> tuple[str, list[Span]]:
        """The first of a few that is short enough, else one that will be cut."""
        for _ in range(40):
            caption, spans = named_caption(scene, rng, self.strangers)
            if words == T5_LENGTH or len(self.tokens.t5(caption).input_ids) <= words:
                break
        return caption, spans


class Batches:
    """`Visits` on the device, packed, with their captions encoded by the text encoders."""

    def __init__(self, work: Path, visits: Visits, workers: int):
        self.visits = visits
        self.encoders = text_encoders.load(work, visits.tokens).to(DEVICE)
        self.generator = torch.Generator().manual_seed(visits.seed)
        self.loader = iter(torch.utils.data.DataLoader(visits, None, num_workers=workers, pin_memory=DEVICE.type == "cuda"))

    @torch.no_grad()
    def encode(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """Returns context [B, 40, 256] and pooled [B, 256]."""
        return self._encode(*self.visits.tokens(captions))

    def ready(self, latents: torch.Tensor, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Packed latents [B, 64, 64], context and pooled."""
        return flow.pack(latents.to(DEVICE, non_blocking=True).float()), *self._encode(clip_ids, t5_ids)

    def _encode(self, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return text_encoders.encode(self.encoders, clip_ids.to(DEVICE), t5_ids.to(DEVICE))

    def next(self) -> tuple[tuple[torch.Tensor, torch.Tensor, torch.Tensor], torch.Tensor, torch.Tensor, tuple[torch.Tensor, torch.Tensor]]:
        """Packed latents, context and pooled; what is drawing; what stands where; and the captions' answers."""
        latents, clip_ids, t5_ids, *more = next(self.loader)
        covered, of_cells, *answers = (part.to(DEVICE) for part in more)
        return self.ready(latents, clip_ids, t5_ids), covered, of_cells, tuple(answers)

    def without(self, pooled: torch.Tensor, share: float) -> torch.Tensor:
        """`pooled` with that of an empty caption in `share` of its rows."""
        if share == 0:
            return pooled
        silent = torch.rand(len(pooled), 1, generator=self.generator).to(DEVICE) < share
        return torch.where(silent, self.encode([""])[1], pooled)

    def window(self, side: int) -> torch.Tensor:
        return flow.window(side, self.generator)

    def noise_and_times(self, clean: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        noise = torch.randn(clean.shape, generator=self.generator)
        return noise.to(DEVICE), flow.random_times(len(clean), self.generator).to(DEVICE)


def noised(clean: torch.Tensor, noise: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
    return clean + t[:, None, None] * (noise - clean)


class CaptionGap:
    """Losses on held-out scenes with right and with shuffled captions, always with the same noise."""

    def __init__(self, batches: Batches):
        self.batches = batches
        self.visits = batches.visits.of(list(range(HELD_OUT)), 0.0, T5_LENGTH, random.Random(77))[:3]
        self.clean = flow.pack(self.visits[0].to(DEVICE).float())
        self.noise = torch.randn(self.clean.shape, generator=torch.Generator().manual_seed(7)).to(DEVICE)

    @torch.no_grad()
    def __call__(self, model, at: float) -> tuple[float, float]:
        losses = []
        _, context, pooled = self.batches.ready(*self.visits)
        for shift in (0, 1):
            total = 0.0
            for part in torch.arange(HELD_OUT).split(64):
                other = (part + shift) % HELD_OUT
                clean, noise, t = self.clean[part], self.noise[part], torch.full((len(part),), at, device=DEVICE)
                v = flow.velocity(model, noised(clean, noise, t), t, context[other], pooled[other], torch.ones_like(t))
                total += F.mse_loss(v, noise - clean).item() * len(part)
            losses.append(total / HELD_OUT)
        return losses[0], losses[1]


@torch.no_grad()
def draw_sheet(path: Path, model, decoder, batches: Batches, guidance: float, steps: int = 16) -> None:
    context, pooled = batches.encode(SHEET_PROMPTS)
    latents = flow.sample(model, context, pooled, seed=1, steps=steps, guidance=guidance, empty=batches.encode([""]))
    save_sheet(path, to_pictures(torch.cat([decoder(part) for part in latents.split(4)])), columns=8)


def stop_if_deaf(gap: tuple[float, float], samples: int) -> None:
    """A run that ignores the prompt by then will not learn it later: its text encoders do not know the words."""
    if samples >= GATE and gap[1] < gap[0] * (1 + LEAST_GAP):
        raise SystemExit(
            f"After {samples} samples a shuffled caption does as well as the right one ({gap[1]:.4f} and {gap[0]:.4f} at t = 0.9): "
            "the prompt is ignored. Train the text encoders longer and begin again."
        )


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


class Training:
    """A training of the transformer, and of what learns beside it; goes on from the checkpoint where there is one."""

    def __init__(self, options: argparse.Namespace):
        torch.manual_seed(8)
        self.options, self.work = options, options.work
        self.checkpoint = self.work / f"{options.name}.pt"
        shape = {"heads": options.heads, "double": options.double, "single": options.single}
        self.model = flow.build(**shape).to(DEVICE)
        if options.start_from and not self.checkpoint.exists():
            self.model.load_state_dict(load_checkpoint(options.start_from)["model"])
        self.average = Average(self.model, 0.998)
        self.optimizers = optimizers(self.model, options.muon)
        self.start = restore_training(self.checkpoint, self.model, self.average, self.optimizers)
        seed = 100 + 7 * self.start + parallel.RANK
        visits = Visits(self.work, options.batch // parallel.WORKERS, options.first, options.first_share, options.alone, options.words, seed)
        self.batches = Batches(self.work, visits, options.workers)
        self.lessons = Lessons(self.work, self.batches.encoders, options.read) if options.read else None
        self.planner = Planner(self.model).to(DEVICE) if options.plan else None
        self.beside = self._beside()
        self.compiled = torch.compile(self.model, dynamic=False) if options.compile else self.model
        self.shadow = flow.build(**shape).to(DEVICE).eval()
        self.gap = CaptionGap(self.batches)
        self.decoder = autoencoder.load(self.work).decoder.to(DEVICE)
        self.losses: list[torch.Tensor] = []
        self.planned: list[float] = []
        print(f"{sum(p.numel() for p in self.model.parameters()) / 1e6:.2f} M parameters, {len(visits.scenes)} scenes, from step {self.start}", flush=True)

    def _beside(self) -> dict[str, Lessons | Learner]:
        """What has optimizers of its own, by its name in the checkpoint; slim checkpoints lack it."""
        beside = {"lessons": self.lessons, "planner": Learner(self.planner) if self.planner else None}
        beside = {name: part for name, part in beside.items() if part}
        stored = load_checkpoint(self.checkpoint) if self.checkpoint.exists() else {}
        for name, part in beside.items():
            if name in stored:
                part.load_state_dict(stored[name])
        return beside

    def run(self) -> None:
        """Up to the end, or as far as this part goes."""
        options, started = self.options, time.time()
        stop = min(options.steps, self.start + options.part)
        done = self.start
        for step in range(self.start, stop):
            self.learn(learning_rate(step, options.steps, options.rate, warmup=options.warmup, decay_from=options.decay_from))
            done = step + 1
            ends = done == stop or parallel.WORKERS == 1 and is_time_up()
            if parallel.RANK == 0:
                if done % 20 == 0 or ends:
                    self.tell(done, (done - self.start) * options.batch / (time.time() - started))
                if done % options.save_every == 0 or ends:
                    self.save(done)
                if done % (2 * options.save_every) == 0 or ends:
                    self.show(done)
            if ends:
                break
        end_of_run(done, stop)

    def learn(self, rate: float) -> None:
        """One step."""
        batches, options = self.batches, self.options
        (clean, context, pooled), covered, of_cells, answers = batches.next()
        where = batches.window(options.window)
        clean = clean[:, where]
        noise, t = batches.noise_and_times(clean)
        v = flow.velocity(self.compiled, noised(clean, noise, t), t, context, batches.without(pooled, options.unpooled), torch.ones_like(t), where)
        weights = 1 + options.focus * covered[:, where]
        loss = ((v - (noise - clean)).square().mean(-1) * weights).sum() / weights.sum()
        self.losses.append(loss.detach())
        if self.lessons:
            loss = loss + self.lessons.loss(context, pooled, *answers)
        if self.planner:
            planning_loss, planned = self.planner.loss(of_cells[:, where])
            self.planned += planned[t > 0.85].tolist()
            loss = loss + options.plan * planning_loss
        loss.backward()
        parallel.average_gradients(self.model)
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for part in self.beside.values():
            part.step(rate)
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = rate
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.average.update(self.model)

    def tell(self, step: int, speed: float) -> None:
        """Prints how it went since it last did; `speed` in samples a second."""
        told = f" planned {100 * np.nanmean(self.planned):.1f} %" if self.planned else ""
        print(f"step {step} ({step * self.options.batch} samples) loss {torch.stack(self.losses).mean():.4f} {speed:.0f} samples/s{told}", flush=True)
        self.losses, self.planned = [], []

    def save(self, step: int) -> None:
        """Writes the checkpoint and prints the caption gap of the averaged weights; ends a run that ignores its prompts."""
        save_training(self.checkpoint, self.model, self.average, self.optimizers, step, **{name: part.state_dict() for name, part in self.beside.items()})
        with self.averaged() as model:
            gaps = {at: self.gap(model, at) for at in (0.5, 0.9)}
        print("  gap " + ", ".join(f"t={at}: {a:.4f} right {b:.4f} shuffled" for at, (a, b) in gaps.items()), flush=True)
        stop_if_deaf(gaps[0.9], step * self.options.batch)

    def show(self, step: int) -> None:
        """Draws the sheet of pictures."""
        with self.averaged() as model:
            draw_sheet(self.work / f"sheets/{self.options.name}-{step:06d}.png", model, self.decoder, self.batches, guidance=4.0)

    @contextmanager
    def averaged(self) -> Iterator[torch.nn.Module]:
        """The transformer with averaged weights; inside, captions are encoded by the averaged encoders, too."""
        self.average.copy_to(self.shadow)
        with self.lessons.averaged() if self.lessons else nullcontext():
            yield self.shadow


def averaged(work: Path, name: str, **shape: int):
    """The averaged transformer of checkpoint `name`."""
    model = flow.build(**shape)
    model.load_state_dict(averaged_weights(load_checkpoint(work / f"{name}.pt")))
    return model.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--name", default="transformer", help="of the checkpoint and the sheets")
    parser.add_argument("--steps", type=int, default=2300, help="length of the whole run")
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--batch", type=int, default=48)
    parser.add_argument("--start-from", type=Path, help="checkpoint whose weights to begin with")
    parser.add_argument("--warmup", type=int, default=200)
    parser.add_argument("--save-every", type=int, default=250, help="steps between checkpoints; sheets come half as often")
    parser.add_argument("--workers", type=int, default=0, help="processes that write captions")
    parser.add_argument("--rate", type=float, default=1.5e-3)
    parser.add_argument("--decay-from", type=float, default=0.6, help="share of the run after which the rate decays")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=4)
    parser.add_argument("--first", type=int, default=COMMON, help="so many of the nouns, the commonest, are in most samples: few in a short training")
    parser.add_argument("--first-share", type=float, default=0.68, help="of the samples, for these nouns but for those that must be recognised")
    parser.add_argument("--alone", type=float, help="share of the samples with one drawing, in the place of the cache's own")
    parser.add_argument("--window", type=int, default=flow.GRID, help="side, in tokens, of the part of the picture that a step sees")
    parser.add_argument("--words", type=int, default=T5_LENGTH, help="T5 tokens that a caption may have, and is padded to")
    parser.add_argument("--unpooled", type=float, default=0.35, help="share of the samples without the pooled vector")
    parser.add_argument("--focus", type=float, default=1.0, help="how much more the tokens with drawings count than the background")
    parser.add_argument("--read", type=float, default=0.0, help="the text encoders go on learning, with this weight of the loss of reading; 0 leaves them frozen")
    parser.add_argument("--plan", type=float, default=0.0, help="weight of telling, inside the transformer, what will stand where; 0 asks for nothing")
    parser.add_argument("--muon", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, default=True)
    parallel.start()
    Training(parser.parse_args()).run()
