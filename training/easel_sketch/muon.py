"""Muon: momentum whose matrix updates are orthogonalised (Jordan et al., 2024), in float32, which a CPU multiplies fastest."""

import torch

from . import parallel


def orthogonalised(matrices: torch.Tensor, iterations: int = 5) -> torch.Tensor:
    """[N, m, n] with singular values pushed toward one, by the quintic Newton–Schulz iteration of the Muon paper."""
    a, b, c = 3.4445, -4.7750, 2.0315
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """For matrices only; the step's size matches AdamW's (0.2 root mean square), so both take the same learning rate."""

    def __init__(self, matrices, lr: float, momentum: float = 0.95, weight_decay: float = 0.01):
        super().__init__(matrices, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure=None) -> None:
        for group in self.param_groups:
            updates = [self._nesterov(parameter, group["momentum"]) for parameter in group["params"]]
            self._orthogonalise(updates)
            for parameter, update in zip(group["params"], updates):
                size = 0.2 * max(parameter.shape) ** 0.5 * group["lr"]
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).sub_(update, alpha=size)

    def _nesterov(self, parameter: torch.Tensor, momentum: float) -> torch.Tensor:
        state = self.state[parameter]
        if not state:
            state["momentum"] = torch.zeros_like(parameter)
        state["momentum"].lerp_(parameter.grad, 1 - momentum)
        return parameter.grad.lerp(state["momentum"], momentum)

    @staticmethod
    def _orthogonalise(updates: list[torch.Tensor]) -> None:
        """In place, equal shapes together; workers share the matrices out among themselves."""
        shapes: dict[torch.Size, list[torch.Tensor]] = {}
        for i, update in enumerate(updates):
            if i % parallel.WORKERS == parallel.RANK:
                shapes.setdefault(update.shape, []).append(update)
            else:
                update.zero_()
        for same in shapes.values():
            for update, result in zip(same, orthogonalised(torch.stack(same), 4)):
                update.copy_(result)
        parallel.total(updates)
