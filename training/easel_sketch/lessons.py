"""What is trained beside the transformer: its text encoders, to give what it draws best from and still to read (`reading`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from . import appearance, parallel, text_encoders
from .common import DEVICE, Average, load_checkpoint, save_checkpoint
from .reading import Reader

RATE = 0.3  # the learning rate, in shares of the transformer's


class Learner:
    """A module and its own AdamW."""

    def __init__(self, module: nn.Module):
        self.module = module
        self.optimizer = torch.optim.AdamW(module.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    def step(self, rate: float) -> None:
        """With the workers' mean gradient, at most of length one."""
        parallel.average_gradients(self.module)
        nn.utils.clip_grad_norm_(self.module.parameters(), 1.0)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

    def state_dict(self) -> dict:
        return {"module": self.module.state_dict(), "optimizer": self.optimizer.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.module.load_state_dict(state["module"])
        self.optimizer.load_state_dict(state["optimizer"])


class Lessons:
    """The text encoders' averages, loss, steps and state."""

    def __init__(self, work: Path, encoders: nn.ModuleDict, weight: float):
        self.work, self.encoders, self.weight = work, encoders.requires_grad_(True), weight
        self.reader = _reader(work).to(DEVICE)
        self.average = Average(self.encoders, 0.998)
        self.learner = Learner(nn.ModuleDict({"encoders": self.encoders, "reader": self.reader}))

    def loss(self, context: torch.Tensor, pooled: torch.Tensor, of_tokens: torch.Tensor, of_scenes: torch.Tensor) -> torch.Tensor:
        return self.weight * (self.reader.context_loss(context, of_tokens, of_scenes) + self.reader.pooled_loss(pooled, of_scenes))

    def step(self, rate: float) -> None:
        """`rate` is the transformer's."""
        self.learner.step(RATE * rate)
        self.average.update(self.encoders)

    def state_dict(self) -> dict:
        return {"learner": self.learner.state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.learner.load_state_dict(state["learner"])
        self.average.load_state_dict(state["average"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, captions are encoded by the averaged encoders, which is also what goes into text_encoders.pt."""
        own = {name: value.clone() for name, value in self.encoders.state_dict().items()}
        self.average.copy_to(self.encoders)
        save_checkpoint(self.work / "text_encoders.pt", models=self.encoders.state_dict())
        yield
        self.encoders.load_state_dict(own)


def _reader(work: Path) -> Reader:
    """The one that taught the encoders; encoders from an exported folder have lost theirs, and get heads that at first ask for nothing."""
    reader = Reader(text_encoders.WIDTH, appearance.load(work))
    training = work / "text_encoders-training.pt"
    if training.exists():
        reader.load_state_dict(load_checkpoint(training)["reader"])
    else:
        reader.ask_nothing()
    return reader
