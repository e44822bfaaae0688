"""A lesson for the transformer: what stands where.

Half-way through the blocks each of the picture's tokens must tell which thing will stand in its cell, and in which colour. At t = 0.9 the
velocity says little of either, and what a network learns of it there is mostly a mean; asked directly, it must bring each noun with its
own colour from the caption to its place. Representation alignment (Yu et al., 2024, arXiv 2410.06940) asks likewise for the features of a
network that sees; here the scene is known, and the labels with it. The heads are not exported.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .reading import NO_NOUN, NOUN_INDEX, UNASKED
from .scenes import Scene
from .vocabulary import COLOURS

OF_CELLS = {"noun": NO_NOUN + 1, "colour": len(COLOURS) + 1}


def about_cells(scene: Scene, standing: list[int]) -> list[tuple[int, int]]:
    """Answers to OF_CELLS for each cell, given the number of the thing in it, from 1, or 0 for none."""
    answers = [(NO_NOUN, UNASKED)]
    answers += [(NOUN_INDEX[thing.noun], COLOURS.index(thing.colour) if thing.colour else len(COLOURS)) for thing in scene.things]
    return [answers[thing] for thing in standing]


class Planner(nn.Module):
    """Heads on the tokens of the picture inside `transformer`, which it watches: call `loss` after a forward pass."""

    def __init__(self, transformer: nn.Module):
        super().__init__()
        width = transformer.inner_dim
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.heads = nn.ModuleDict({name: nn.Linear(width, size) for name, size in OF_CELLS.items()})
        for head in self.heads.values():
            nn.init.zeros_(head.weight)
        self.seen: torch.Tensor | None = None
        blocks = transformer.single_transformer_blocks
        blocks[(len(blocks) - 1) // 2].register_forward_hook(self._see)

    def _see(self, block: nn.Module, inputs: tuple, outputs: tuple[torch.Tensor, torch.Tensor]) -> None:
        self.seen = outputs[1]

    def loss(self, answers: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """The loss for answers [B, N, OF_CELLS], and for each sample the share of its things' cells with the right noun (not a number where there are none)."""
        features = self.norm(self.seen.float())
        logits = [head(features) for head in self.heads.values()]
        loss = sum(F.cross_entropy(of_cells.flatten(0, 1), answers[..., i].flatten(), ignore_index=UNASKED) for i, of_cells in enumerate(logits))
        things = (answers[..., 0] >= 0) & (answers[..., 0] < NO_NOUN)
        right = (logits[0].detach().argmax(-1) == answers[..., 0]) & things
        return loss, right.sum(1) / things.sum(1)
