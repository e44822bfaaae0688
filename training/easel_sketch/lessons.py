"""T5's further training beside the transformer: to give what that draws best from, and still to read (`reading`)."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import nn

from . import appearance, text_encoders
from .common import DEVICE, Average, load_checkpoint, save_checkpoint
from .reading import Reader

T5_RATE = 0.3  # the learning rate, in shares of the transformer's


class Lessons:
    """The averages, the loss and the state of it."""

    def __init__(self, work: Path, encoders: nn.ModuleDict, weight: float):
        self.work, self.encoders, self.weight = work, encoders, weight
        self.t5 = encoders["t5"].requires_grad_(True)
        self.reader = Reader(text_encoders.WIDTH, appearance.load(work)).to(DEVICE)
        self.reader.load_state_dict(load_checkpoint(work / "text_encoders-training.pt")["reader"])
        self.modules = nn.ModuleDict({"t5": self.t5, "reader": self.reader})
        self.average = Average(self.t5, 0.998)

    def optimizer(self) -> torch.optim.Optimizer:
        return torch.optim.AdamW(self.modules.parameters(), lr=1.0, betas=(0.9, 0.98), weight_decay=0.01, fused=True)

    def loss(self, context: torch.Tensor, of_tokens: torch.Tensor, of_scenes: torch.Tensor) -> torch.Tensor:
        return self.weight * self.reader.context_loss(context, of_tokens, of_scenes)

    def state_dict(self) -> dict:
        return {"modules": self.modules.state_dict(), "average": self.average.state_dict()}

    def load_state_dict(self, state: dict) -> None:
        self.modules.load_state_dict(state["modules"])
        self.average.load_state_dict(state["average"])

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """Inside, captions are encoded by the averaged T5, which is also what goes into text_encoders.pt."""
        own = {name: value.clone() for name, value in self.t5.state_dict().items()}
        self.average.copy_to(self.t5)
        save_checkpoint(self.work / "text_encoders.pt", models=self.encoders.state_dict())
        yield
        self.t5.load_state_dict(own)
