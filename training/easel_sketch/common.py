"""What all training scripts share: the device, the time they may take, the learning-rate schedule, moving averages, checkpoints and sheets."""

import math
import os
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import torch
from PIL import Image


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")
UNFINISHED = 75  # the exit code of a training that stopped before its last step
torch.set_float32_matmul_precision("high")
_STOP_AT = float(os.environ.get("EASEL_STOP_AT", "inf"))  # seconds since 1970, set by run.py


def is_time_up() -> bool:
    """True when a part of a run must end: its caller saves a checkpoint and goes on another time."""
    return time.time() > _STOP_AT


def end_of_run(step: int, steps: int) -> None:
    """Tells whoever started this process whether all `steps` are done."""
    if step < steps:
        raise SystemExit(UNFINISHED)


def mixed_precision() -> torch.autocast:
    """bfloat16 on a GPU; float32 on a CPU, most of which are no faster in less."""
    return torch.autocast(DEVICE.type, torch.bfloat16, enabled=DEVICE.type == "cuda")


def learning_rate(step: int, total: int, peak: float, warmup: int = 100, decay_from: float = 0.7) -> float:
    """Linear warm-up, a plateau, and a cosine decay to a fiftieth over the last part of the run."""
    if step < warmup:
        return peak * (step + 1) / warmup
    start = decay_from * total
    if step < start:
        return peak
    progress = min(1.0, (step - start) / max(1.0, total - start))
    return peak * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * progress)))


class Average:
    """An exponential moving average of a module's parameters, warmed up so that early steps are forgotten."""

    def __init__(self, module: torch.nn.Module, decay: float):
        self.decay = decay
        self.updates = 0
        self.values = {name: p.detach().clone() for name, p in module.named_parameters()}

    @torch.no_grad()
    def update(self, module: torch.nn.Module) -> None:
        self.updates += 1
        decay = min(self.decay, self.updates / (self.updates + 10))
        torch._foreach_lerp_(list(self.values.values()), [p.detach() for p in module.parameters()], 1 - decay)

    @torch.no_grad()
    def copy_to(self, module: torch.nn.Module) -> None:
        for name, parameter in module.named_parameters():
            parameter.copy_(self.values[name])

    def state_dict(self) -> dict:
        return {"updates": self.updates, "values": self.values}

    def load_state_dict(self, state: dict) -> None:
        self.updates = state["updates"]
        for name, value in state["values"].items():
            self.values[name].copy_(value)


def save_checkpoint(path: Path, **parts: object) -> None:
    """Writes through a temporary file, so that a killed run leaves the previous checkpoint whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_suffix(".tmp")
    torch.save(_on_cpu(parts), temporary)
    temporary.replace(path)


def _on_cpu(value: object) -> object:
    """The same nest of dictionaries and lists with its tensors on the CPU, so that any machine can read them."""
    match value:
        case torch.Tensor():
            return value.detach().cpu()
        case dict():
            return {key: _on_cpu(part) for key, part in value.items()}
        case list() | tuple():
            return [_on_cpu(part) for part in value]
        case _:
            return value


def load_checkpoint(path: Path) -> dict:
    return torch.load(path, map_location="cpu", weights_only=True)


def save_training(path: Path, model: torch.nn.Module, average: Average, optimizers: list[torch.optim.Optimizer], step: int, **more: object) -> None:
    states = [optimizer.state_dict() for optimizer in optimizers]
    save_checkpoint(path, model=model.state_dict(), average=average.state_dict(), optimizers=states, step=step, **more)


def restore_training(path: Path, model: torch.nn.Module, average: Average, optimizers: list[torch.optim.Optimizer]) -> int:
    """Goes back to where a training stopped; returns its step, 0 where there is no checkpoint.

    A slim checkpoint (run.py makes them) has no optimizers: these begin afresh.
    """
    if not path.exists():
        return 0
    state = load_checkpoint(path)
    model.load_state_dict(state["model"])
    if "average" in state:
        average.load_state_dict(state["average"])
    else:
        average.values = {name: p.detach().clone() for name, p in model.named_parameters()}
    for optimizer, saved in zip(optimizers, state.get("optimizers", [])):
        optimizer.load_state_dict(saved)
    return state["step"]


def averaged_weights(state: dict) -> dict[str, torch.Tensor]:
    """A checkpoint's weights, each the moving average where there is one."""
    return {**state["model"], **state.get("average", {}).get("values", {})}


def to_tensor(pictures: np.ndarray) -> torch.Tensor:
    """uint8 [B, H, W, 3] to float [B, 3, H, W] in −1…1."""
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).float() / 127.5 - 1


def to_pictures(tensor: torch.Tensor) -> np.ndarray:
    """float [B, 3, H, W] in −1…1 to uint8 [B, H, W, 3]."""
    return ((tensor.float().clamp(-1, 1) + 1) * 127.5).round().byte().permute(0, 2, 3, 1).cpu().numpy()


def save_sheet(path: Path, pictures: Iterable[np.ndarray], columns: int) -> None:
    """Saves equally sized pictures as one grid."""
    pictures = list(pictures)
    height, width = pictures[0].shape[:2]
    rows = -(-len(pictures) // columns)
    sheet = np.full((rows * (height + 4), columns * (width + 4), 3), 255, np.uint8)
    for i, picture in enumerate(pictures):
        y, x = i // columns * (height + 4), i % columns * (width + 4)
        sheet[y : y + height, x : x + width] = picture
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(sheet).save(path)
