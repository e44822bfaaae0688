"""The evaluation's judge: a small detector that says which things are where in a picture, and in which colour.

    python -m easel_sketch.judge --work WORK --pictures 12000 --steps 6000

A centre-point detector (Zhou et al., "Objects as Points", 2019): a heat map of centres, and at each a noun and a colour. It is trained on renders
of its own, shifted, blurred and with noise, so that soft pictures do not confuse it; and on ruined drawings that it must not recognise,
so that it is no kinder than an eye. Its own accuracy, measured by `evaluate` on renders of the very prompts, is stored with it.
"""

import argparse
import json
import random
import time
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file
from torch import nn

from .bank import ArtBank, Instance
from .common import DEVICE, end_of_run, is_time_up, learning_rate, load_checkpoint, save_checkpoint
from .scenes import SIZE, Mix, Scene, random_scene
from .vocabulary import COLOURS, NOUNS

SIDE = 128  # of the pictures that the judge sees
CELL = 8  # pixels of these in a cell of the heat map
GRID = SIDE // CELL
MANY = len(COLOURS)  # the answer for a look of many colours
UNSAID = -1  # not asked: a usual look fits a colour word more or less
SURE = 0.3  # heat above which a centre counts: at 0.4 it misses true drawings, at 0.2 it is content with more ruined ones
# No prompt of the evaluation names a style; threes show it more things in a step.
MIX = Mix(two=0.35, three=0.25, counting=0.2, styles=(None,), coloured=0.75, must_weight=1.0)


@dataclass(frozen=True)
class Found:
    """A thing that the judge sees; `colour` None for many colours; x and y are its centre, in shares of the picture's side."""

    noun: str
    colour: str | None
    x: float
    y: float


class Block(nn.Module):
    """A residual block, halving the side at first where asked to."""

    def __init__(self, into: int, out: int, stride: int):
        super().__init__()
        self.first, self.second = nn.Conv2d(into, out, 3, stride, 1, bias=False), nn.Conv2d(out, out, 3, 1, 1, bias=False)
        self.norms = nn.ModuleList([nn.BatchNorm2d(out), nn.BatchNorm2d(out)])
        self.short = nn.Conv2d(into, out, 1, stride, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.norms[1](self.second(F.relu(self.norms[0](self.first(x)))))
        return F.relu(y + self.short(x))


class Judge(nn.Module):
    """Pictures [B, 3, 128, 128] in −1…1 to heat [B, 16, 16], nouns [B, N, 16, 16] and colours [B, C + 1, 16, 16], all logits."""

    def __init__(self, nouns: list[str], width: int = 48):
        super().__init__()
        self.nouns = nouns
        w = width
        self.stem = nn.Sequential(nn.Conv2d(3, w // 2, 5, 2, 2, bias=False), nn.BatchNorm2d(w // 2), nn.ReLU())  # 64
        self.down = nn.ModuleList([Block(w // 2, w, 2), Block(w, 2 * w, 2), Block(2 * w, 3 * w, 2), Block(3 * w, 4 * w, 2)])  # 32, 16, 8, 4
        self.up = nn.ModuleList([nn.Conv2d(4 * w, 3 * w, 1), nn.Conv2d(3 * w, 2 * w, 1)])
        self.merged = Block(2 * w, 2 * w, 1)
        self.heat = nn.Conv2d(2 * w, 1, 1)
        self.noun, self.colour = nn.Conv2d(2 * w, len(nouns), 1), nn.Conv2d(2 * w, len(COLOURS) + 1, 1)
        nn.init.constant_(self.heat.bias, -4.0)

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        x = self.down[0](self.stem(x))
        fine = self.down[1](x)
        middle = self.down[2](fine)
        coarse = self.down[3](middle)
        middle = middle + F.interpolate(self.up[0](coarse), scale_factor=2.0)
        x = self.merged(fine + F.interpolate(self.up[1](middle), scale_factor=2.0))
        return self.heat(x)[:, 0], self.noun(x), self.colour(x)


def reduced(picture: np.ndarray) -> np.ndarray:
    """A square uint8 picture of any side at the judge's side."""
    return np.asarray(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.BOX))


@torch.no_grad()
def look(judge: Judge, pictures: list[np.ndarray]) -> list[list[Found]]:
    """What the judge finds in uint8 pictures [H, W, 3], square and of any side."""
    judge.eval()
    device = next(judge.parameters()).device
    found = []
    for start in range(0, len(pictures), 64):
        pixels = np.stack([reduced(picture) for picture in pictures[start : start + 64]])
        heat, nouns, colours = judge(_to_tensor(pixels).to(device))
        heat = heat.sigmoid()
        peaks = (heat == F.max_pool2d(heat[:, None], 3, 1, 1)[:, 0]) & (heat > SURE)
        nouns, colours = nouns.argmax(1), colours.argmax(1)
        found += [[_found(judge, nouns[i], colours[i], *cell) for cell in peaks[i].nonzero().tolist()] for i in range(len(pixels))]
    return found


def _found(judge: Judge, nouns: torch.Tensor, colours: torch.Tensor, row: int, column: int) -> Found:
    colour = int(colours[row, column])
    return Found(judge.nouns[int(nouns[row, column])], COLOURS[colour] if colour < MANY else None, (column + 0.5) / GRID, (row + 0.5) / GRID)


def _to_tensor(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


# --- training ----------------------------------------------------------------------------------------------------------------


Label = tuple[int, int, float, float, float]  # noun, colour, centre x and y, size; in pixels of SIDE


def label(instance: Instance, scene: Scene, numbers: dict[str, int]) -> Label:
    """What the judge must say of a drawing: its colour only where the scene names one, or where its look has many."""
    noun = NOUNS[instance.noun]
    named = next(thing.colour for thing in scene.things if thing.noun == noun.name) or noun.dress
    colour = COLOURS.index(named) if named else UNSAID if noun.natural else MANY
    left, top, right, bottom = (edge * SIDE / SIZE for edge in instance.box)
    return numbers[noun.name], colour, (left + right) / 2, (top + bottom) / 2, max(right - left, bottom - top)


class Renders(torch.utils.data.Dataset):
    """Scenes of the judge's own seeds, half of them of combinations kept from the model's training: pictures and labels."""

    def __init__(self, work: Path, nouns: list[str], count: int, first_seed: int = 5_000_000):
        self.work, self.count, self.first_seed, self.bank = work, count, first_seed, None
        self.numbers = {noun: i for i, noun in enumerate(nouns)}
        # Of the commonest nouns where these are all it must know; of any others what fits is picked from scenes of everything.
        self.mix = replace(MIX, nouns=len(nouns)) if set(nouns) == set(list(NOUNS)[: len(nouns)]) else MIX

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> tuple[np.ndarray, list[Label]]:
        self.bank = self.bank or ArtBank(self.work)
        rng = random.Random(self.first_seed + i)
        while True:
            scene: Scene = random_scene(rng, held_out=rng.random() < 0.5, mix=self.mix)
            if all(thing.noun in self.numbers for thing in scene.things):
                picture, instances = self.bank.render(scene, rng)
                return reduced(picture), [label(instance, scene, self.numbers) for instance in instances]


def render_all(work: Path, nouns: list[str], count: int, workers: int) -> tuple[np.ndarray, list[list[Label]]]:
    """uint8 [count, 128, 128, 3] and what is in each; kept in WORK for a run that goes on."""
    pixels_file, labels_file = work / "judge-pictures.npy", work / "judge-labels.json"
    if labels_file.exists() and len(stored := json.loads(labels_file.read_text())) == count:
        return np.load(pixels_file), stored  # in memory: steps would wait for the disk where the kernel drops what is mapped
    pixels = np.lib.format.open_memmap(pixels_file, "w+", np.uint8, (count, SIDE, SIDE, 3))
    labels: list[list[Label]] = []
    loader = torch.utils.data.DataLoader(Renders(work, nouns, count), 32, collate_fn=list, num_workers=workers)
    for part in loader:
        for picture, things in part:
            pixels[len(labels)] = picture
            labels.append(things)
    pixels.flush()
    labels_file.write_text(json.dumps(labels))
    return pixels, labels


def ruin(pixels: torch.Tensor, label: Label, rng: random.Random) -> None:
    """Makes one drawing of a picture [3, H, W] unrecognisable, in place: its tiles are shuffled, or smeared into one another."""
    _, _, x, y, size = label
    tile = max(4, int(size / 3))
    left, top = (max(0, min(SIDE - 3 * tile, int(centre - 1.5 * tile))) for centre in (x, y))
    part = pixels[:, top : top + 3 * tile, left : left + 3 * tile]
    tiles = part.reshape(3, 3, tile, 3, tile).permute(1, 3, 0, 2, 4).reshape(9, 3, tile, tile)
    order = torch.tensor(rng.sample(range(9), 9))
    tiles = tiles[order] if rng.random() < 0.5 else 0.5 * tiles + 0.5 * tiles[order]
    shuffled = tiles.reshape(3, 3, 3, tile, tile).permute(2, 0, 3, 1, 4).reshape(3, 3 * tile, 3 * tile)
    if rng.random() < 0.7:
        shuffled = F.avg_pool2d(shuffled[None], 5, 1, 2, count_include_pad=False)[0]
    part.copy_(shuffled)


def ruined(picture: np.ndarray, label: Label, rng: random.Random) -> np.ndarray:
    """A copy of a uint8 picture [128, 128, 3] in which one drawing is ruined."""
    pixels = torch.from_numpy(picture.copy()).permute(2, 0, 1).float()
    ruin(pixels, label, rng)
    return pixels.permute(1, 2, 0).round().byte().numpy()


def disturb(x: torch.Tensor, rng: random.Random) -> torch.Tensor:
    """Softness, brightness and noise, as generated pictures have them."""
    if rng.random() < 0.5:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    if rng.random() < 0.2:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
    x = x * (1 + 0.08 * torch.randn(len(x), 1, 1, 1)) + 0.05 * torch.randn(len(x), 1, 1, 1)
    return x + 0.1 * rng.random() * torch.randn_like(x)


def targets(labels: list[list[Label]], dx: int, dy: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Heat [B, 16, 16] with a small hill on each centre, nouns and colours at the hills' middle cells (elsewhere −1, as where a colour is unsaid)."""
    shape = (len(labels), GRID, GRID)
    heat, nouns, colours = torch.zeros(shape), torch.full(shape, -1), torch.full(shape, -1)
    cells = torch.arange(GRID)
    for i, things in enumerate(labels):
        for noun, colour, x, y, size in things:
            column, row = (min(GRID - 1, max(0, int(centre // CELL))) for centre in (x + dx, y + dy))
            sigma = max(0.5, 0.08 * size / CELL)
            hill = (-((cells[:, None] - row) ** 2 + (cells[None] - column) ** 2) / (2 * sigma**2)).exp()
            heat[i] = torch.maximum(heat[i], hill)
            near = (hill > 0.5) & (hill >= heat[i])
            nouns[i][near], colours[i][near] = noun, colour
    return heat, nouns, colours


def loss_of(outputs: tuple[torch.Tensor, ...], heat: torch.Tensor, nouns: torch.Tensor, colours: torch.Tensor) -> torch.Tensor:
    """The focal loss of the heat, in which cells near a centre weigh little, and cross entropies at the centres."""
    logits, noun_logits, colour_logits = outputs
    p = logits.sigmoid()
    centre = heat == 1
    found = (1 - p) ** 2 * F.logsigmoid(logits)
    empty = (1 - heat) ** 4 * p**2 * F.logsigmoid(-logits)
    focal = -torch.where(centre, found, empty).sum() / centre.sum().clamp(min=1)
    return focal + F.cross_entropy(noun_logits, nouns, ignore_index=-1) + 0.7 * F.cross_entropy(colour_logits, colours, ignore_index=-1)


def train(options: argparse.Namespace) -> None:
    """Goes on from the checkpoint where there is one."""
    work, steps = options.work, options.steps
    nouns = list(json.loads(options.nouns.read_text())["nouns"])
    pixels, labels = render_all(work, nouns, options.pictures, options.workers)
    # Otherwise things alone, which are seen large, would be a few among many small ones.
    shares = np.array([1 / max(1, len(things)) for things in labels])
    shares /= shares.sum()
    torch.manual_seed(20)
    judge = Judge(nouns, options.width).to(DEVICE, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(judge.parameters(), lr=options.rate, weight_decay=0.02)
    checkpoint, start = work / "judge.pt", 0
    if options.start_from and not checkpoint.exists():
        judge.load_state_dict(carried_over(load(options.start_from), judge))
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        judge.load_state_dict(state["model"])
        if "optimizer" in state:
            optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    rng, generator = random.Random(21 + start), np.random.default_rng(22 + start)
    stop, began, recent = min(steps, start + options.part), time.time(), []
    for step in range(start, stop):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, options.rate, decay_from=0.4)
        chosen = np.sort(generator.choice(len(labels), options.batch, replace=False, p=shares))
        x = _to_tensor(np.array(pixels[chosen]))
        there = [list(labels[i]) for i in chosen]
        for i, things in enumerate(there):
            if things and rng.random() < options.ruined:
                ruin(x[i], things.pop(rng.randrange(len(things))), rng)
        dx, dy = rng.randint(-10, 10), rng.randint(-10, 10)
        x = F.pad(x, (10, 10, 10, 10), mode="replicate")[:, :, 10 - dy : 10 - dy + SIDE, 10 - dx : 10 - dx + SIDE]
        outputs = judge.train()(disturb(x, rng).to(DEVICE, memory_format=torch.channels_last))
        loss = loss_of(outputs, *(target.to(DEVICE) for target in targets(there, dx, dy)))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(judge.parameters(), 5.0)
        optimizer.step()
        recent.append(loss.detach())
        ends = step + 1 == stop or is_time_up()
        if step % 100 == 99 or ends:
            print(f"step {step + 1} loss {torch.stack(recent).mean():.3f} {(time.time() - began) / (step + 1 - start):.3f} s/step", flush=True)
            recent = []
        if step % 500 == 499 or ends:
            save_checkpoint(checkpoint, model=judge.state_dict(), optimizer=optimizer.state_dict(), step=step + 1, nouns=nouns, width=options.width)
        if ends:
            break
    end_of_run(step + 1 if start < stop else start, stop)
    if options.export:
        export(work, options.export)


def carried_over(old: Judge, new: Judge) -> dict[str, torch.Tensor]:
    """The weights of `new` with those of `old`, except for nouns that it does not know."""
    weights = new.state_dict()
    for name, value in old.state_dict().items():
        if not name.startswith("noun."):
            weights[name] = value
            continue
        for row, noun in enumerate(new.nouns):
            if noun in old.nouns:
                weights[name][row] = value[old.nouns.index(noun)]
    return weights


def export(work: Path, file: Path) -> None:
    """Writes the trained judge in half precision, small enough to be kept beside its prompts."""
    state = load_checkpoint(work / "judge.pt")
    weights = {name: value.half().contiguous() if value.is_floating_point() else value for name, value in state["model"].items()}
    save_file(weights, file, {"nouns": json.dumps(state["nouns"]), "width": str(state["width"])})


def load(file: Path) -> Judge:
    """An exported judge."""
    with safe_open(file, "pt") as stored:
        facts = stored.metadata()
        judge = Judge(json.loads(facts["nouns"]), int(facts["width"]))
        judge.load_state_dict({name: stored.get_tensor(name) for name in stored.keys()})
    return judge.to(DEVICE).eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--nouns", type=Path, required=True, help="the list of prompts whose nouns it must know")
    parser.add_argument("--pictures", type=int, default=12_000)
    parser.add_argument("--steps", type=int, default=6000, help="length of the whole run")
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rate", type=float, default=2e-3)
    parser.add_argument("--start-from", type=Path, help="an exported judge of other nouns to begin with")
    parser.add_argument("--export", type=Path, help="where to write the judge when it is trained, for `evaluate --judge`")
    parser.add_argument("--ruined", type=float, default=0.25, help="share of pictures with a drawing that must not be recognised")
    parser.add_argument("--width", type=int, default=48)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)
