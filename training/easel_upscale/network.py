"""
The compact enlarging network of Real-ESRGAN (`SRVGGNetCompact`, Wang et al. 2021): plain convolutions at the small size and
one pixel shuffle at the end, added to the repeated pixels. Parameter names and order as there, so that one reader serves both.
"""

import torch
from torch import nn
from torch.nn import functional as F

#: How far the hidden layers begin from the identity.
NOISE = 0.3
#: Of the leaky ReLU; upstream's for its activation "leakyrelu".
SLOPE = 0.1


class CompactUpscaler(nn.Module):
    def __init__(self, features: int = 32, depth: int = 10, factor: int = 4):
        super().__init__()
        self.factor = factor
        layers: list[nn.Module] = [nn.Conv2d(3, features, 3, 1, 1)]
        for _ in range(depth):
            layers += [nn.LeakyReLU(SLOPE), nn.Conv2d(features, features, 3, 1, 1)]
        layers += [nn.LeakyReLU(SLOPE), nn.Conv2d(features, 3 * factor**2, 3, 1, 1)]
        self.body = nn.ModuleList(layers)
        self.start_from_interpolation()

    @torch.no_grad()
    def start_from_interpolation(self) -> None:
        """
        Deep plain networks learn slowly from chance. This one begins as a quadratic interpolation: colours pass through all
        layers unchanged, and so do differences to the neighbours, lifted above zero so that no activation bends them.
        """
        first, *hidden, last = self.body[::2]
        first.weight.mul_(0.5)
        first.bias.copy_(0.5 * (torch.arange(len(first.bias)) % 2))
        nn.init.dirac_(first.weight[:3])
        first.bias[:3] = 0
        for conv in hidden:
            noise = torch.randn_like(conv.weight) * NOISE * conv.weight[0].numel() ** -0.5
            nn.init.dirac_(conv.weight)
            conv.weight.add_(noise)
            conv.weight[:3] -= noise[:3]
            conv.bias.zero_()
        nn.init.zeros_(last.weight)
        nn.init.zeros_(last.bias)
        at = (torch.arange(self.factor) + 0.5) / self.factor - 0.5  # of a large pixel in its small one
        weights = torch.stack([at * (at - 1) / 2, 1 - at**2, at * (at + 1) / 2], 1)  # of the neighbours before, at, after
        kernels = weights[:, None, :, None] * weights[None, :, None, :]
        kernels[:, :, 1, 1] -= 1  # the repeated pixel is there already
        for colour in range(3):
            last.weight.view(3, self.factor**2, -1, 3, 3)[colour, :, colour] = kernels.flatten(0, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """[B, 3, H, W] in 0…1 → [B, 3, factor · H, factor · W], not clipped."""
        y = x
        for layer in self.body:
            y = layer(y)
        repeated = F.interpolate(x, scale_factor=self.factor, mode="nearest")
        return F.pixel_shuffle(y, self.factor) + repeated
