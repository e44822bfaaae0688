"""A small classifier that names the noun, colour and place of a picture, to score generated ones.

    python -m easel_sketch.judge --work WORK

It is trained on the cached thumbnails, blurred, shifted and with noise so that soft pictures do not confuse it, and tested on
fresh renders. Scores of generated pictures mean little without its own accuracy, which is stored beside it.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from .cache import cached_scene, thumbnail
from .common import learning_rate, load_checkpoint, save_checkpoint, to_tensor
from .scenes import ArtBank, Scene, random_scene
from .text_encoders import QUESTIONS, answers

ASKED = list(QUESTIONS)[:3]  # noun, colour, place of single-object scenes


class Judge(nn.Module):
    """Convolutions on 64 × 64 thumbnails, one linear head for each question."""

    def __init__(self):
        super().__init__()
        widths = (3, 32, 64, 96, 128)
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 5 if a == 3 else 3, stride=2, padding=2 if a == 3 else 1) for a, b in zip(widths, widths[1:])
        )
        self.norms = nn.ModuleList(nn.BatchNorm2d(b) for b in widths[1:])
        self.trunk = nn.Linear(128 * 16, 256)
        self.heads = nn.ModuleList(nn.Linear(256, QUESTIONS[name]) for name in ASKED)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        for convolution, norm in zip(self.convolutions, self.norms):
            x = F.relu(norm(convolution(x)))
        x = F.dropout(F.relu(self.trunk(x.flatten(1))), 0.2, self.training)
        return [head(x) for head in self.heads]


def _disturb(x: torch.Tensor) -> torch.Tensor:
    """Blur, a shift of up to three pixels, brightness and noise."""
    if random.random() < 0.5:
        x = F.avg_pool2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), 3, 1)
    if random.random() < 0.2:
        x = F.interpolate(F.avg_pool2d(x, 2), scale_factor=2.0, mode="bilinear")
    dy, dx = random.randint(-3, 3), random.randint(-3, 3)
    x = F.pad(x, (3, 3, 3, 3), mode="replicate")[:, :, 3 + dy : 67 + dy, 3 + dx : 67 + dx]
    x = x * (1 + 0.1 * torch.randn(len(x), 1, 1, 1)) + 0.05 * torch.randn(len(x), 1, 1, 1)
    return x + 0.1 * random.random() * torch.randn_like(x)


def single_scenes(seed: int, count: int, held_out_share: float = 0.5) -> list[Scene]:
    rng = random.Random(seed)
    scenes: list[Scene] = []
    while len(scenes) < count:
        scene = random_scene(rng, rng.random() < held_out_share)
        if len(scene.things) == 1:
            scenes.append(scene)
    return scenes


def score(judge: Judge, thumbnails: np.ndarray, scenes: list[Scene]) -> dict[str, float]:
    """Share of right answers to each question, and of pictures with all three right."""
    right = correct(judge, thumbnails, scenes)
    return {**{name: round(right[:, i].float().mean().item(), 4) for i, name in enumerate(ASKED)}, "all": round(right.all(1).float().mean().item(), 4)}


@torch.no_grad()
def correct(judge: Judge, thumbnails: np.ndarray, scenes: list[Scene]) -> torch.Tensor:
    """bool [B, 3]; an unnamed place may look like white, and a natural look like its colour word."""
    judge.eval()
    labels = torch.tensor([answers(scene)[:3] for scene in scenes])
    outputs = [torch.cat([judge(to_tensor(part))[i] for part in np.array_split(thumbnails, max(1, len(thumbnails) // 256))]) for i in range(3)]
    return torch.stack([output.argmax(-1) == labels[:, i] for i, output in enumerate(outputs)], dim=1)


def train(work: Path, steps: int, threads: int) -> None:
    torch.manual_seed(20)
    torch.set_num_threads(threads)
    random.seed(21)
    count = int((work / "cached.txt").read_text())
    scenes = [cached_scene(i)[0] for i in range(count)]
    single = np.array([i for i, scene in enumerate(scenes) if len(scene.things) == 1])
    labels = torch.tensor([answers(scene)[:3] for scene in scenes])
    thumbnails = np.load(work / "thumbnails.npy", mmap_mode="r")
    judge = Judge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.01)
    generator = np.random.default_rng(22)
    started = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, 2e-3, decay_from=0.5)
        chosen = np.sort(generator.choice(single, 128, replace=False))
        outputs = judge(_disturb(to_tensor(np.array(thumbnails[chosen]))))
        loss = sum(F.cross_entropy(output, labels[chosen, i]) for i, output in enumerate(outputs))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 200 == 199:
            print(f"step {step + 1} loss {loss:.4f} {(time.time() - started) / (step + 1):.3f} s/step", flush=True)
    bank, rng = ArtBank(work / "bank"), random.Random(23)
    tests = single_scenes(24, 1000)
    fresh = np.stack([thumbnail(bank.render(scene, rng)) for scene in tests])
    accuracy = score(judge, fresh, tests)
    print("accuracy on fresh renders, half of held-out combinations:", accuracy)
    save_checkpoint(work / "judge.pt", judge=judge.state_dict(), accuracy=accuracy)


def load(work: Path) -> tuple[Judge, dict[str, float]]:
    state = load_checkpoint(work / "judge.pt")
    judge = Judge()
    judge.load_state_dict(state["judge"])
    return judge.eval(), state["accuracy"]


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=1200)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    train(arguments.work, arguments.steps, arguments.threads)
