"""Data-parallel helpers: two single-threaded processes beat one process with two threads on a busy machine.

Start a script with `torchrun --standalone --nproc-per-node 2 -m easel_sketch.…`; without torchrun everything here is a no-op.
"""

import os
from collections.abc import Iterable

import torch
import torch.distributed as dist

RANK, WORKERS = int(os.environ.get("RANK", 0)), int(os.environ.get("WORLD_SIZE", 1))


def start() -> None:
    """Joins the other workers; alone, takes both cores."""
    if WORKERS > 1:
        dist.init_process_group("gloo")
    torch.set_num_threads(1 if WORKERS > 1 else 2)


def total(tensors: Iterable[torch.Tensor], scale: float = 1.0) -> None:
    """Replaces each tensor by `scale` times its sum over the workers."""
    if WORKERS == 1:
        return
    tensors = list(tensors)
    flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
    dist.all_reduce(flat)
    flat *= scale
    for tensor, part in zip(tensors, flat.split([tensor.numel() for tensor in tensors])):
        tensor.copy_(part.view_as(tensor))


def average_gradients(model: torch.nn.Module) -> None:
    total((p.grad for p in model.parameters() if p.grad is not None), 1 / WORKERS)
