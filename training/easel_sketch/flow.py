"""Rectified flow in FLUX's conventions: the transformer, packing, times, the training loss and the sampler.

x_t = (1 − t)·x₀ + t·noise; the transformer predicts the velocity noise − x₀. Latents [B, 16, 16, 16] are packed 2 × 2 into 64 tokens
of 64 channels, as diffusers' FluxPipeline does.
"""

import torch
from diffusers import FluxTransformer2DModel

from .common import DEVICE, mixed_precision
from .text_encoders import WIDTH as TEXT_WIDTH
from .tokenizers import T5_LENGTH

GRID = 8  # tokens along one side
CHANNELS = 64  # of a token: 16 of the latents, packed 2 × 2
SHIFT = 3.0  # of the times, in training and in the scheduler


def build(heads: int = 4, double: int = 2, single: int = 4) -> FluxTransformer2DModel:
    """A FLUX transformer whose blocks start as the identity (modulation and output at zero)."""
    model = FluxTransformer2DModel(
        patch_size=1,
        in_channels=CHANNELS,
        num_layers=double,
        num_single_layers=single,
        attention_head_dim=64,
        num_attention_heads=heads,
        joint_attention_dim=TEXT_WIDTH,
        pooled_projection_dim=TEXT_WIDTH,
        guidance_embeds=True,
        axes_dims_rope=(16, 24, 24),
    )
    for name, module in model.named_modules():
        if name == "proj_out" or (name.endswith(".linear") and "norm" in name):
            torch.nn.init.zeros_(module.weight)
            torch.nn.init.zeros_(module.bias)
    return model


def pack(latents: torch.Tensor) -> torch.Tensor:
    """[B, C, 2·G, 2·G] → [B, G², 4·C]"""
    b, c, h, w = latents.shape
    return latents.view(b, c, h // 2, 2, w // 2, 2).permute(0, 2, 4, 1, 3, 5).reshape(b, h * w // 4, 4 * c)


def unpack(tokens: torch.Tensor) -> torch.Tensor:
    """[B, G², 4·C] → [B, C, 2·G, 2·G]"""
    b, _, c = tokens.shape
    return tokens.view(b, GRID, GRID, c // 4, 2, 2).permute(0, 3, 1, 4, 2, 5).reshape(b, c // 4, 2 * GRID, 2 * GRID)


def image_ids() -> torch.Tensor:
    """[G², 3]: zero, row, column."""
    ids = torch.zeros(GRID, GRID, 3)
    ids[..., 1] += torch.arange(GRID)[:, None]
    ids[..., 2] += torch.arange(GRID)[None]
    return ids.view(-1, 3)


_IMAGE_IDS, _TEXT_IDS = image_ids().to(DEVICE), torch.zeros(T5_LENGTH, 3, device=DEVICE)


EVERYWHERE = torch.arange(GRID**2, device=DEVICE)


def window(side: int, generator: torch.Generator) -> torch.Tensor:
    """The numbers of the tokens in a square of `side` × `side` somewhere in the picture."""
    if side == GRID:
        return EVERYWHERE
    top, left = (int(offset) for offset in torch.randint(GRID - side + 1, (2,), generator=generator))
    return EVERYWHERE.view(GRID, GRID)[top : top + side, left : left + side].flatten()


def velocity(
    model, x: torch.Tensor, t: torch.Tensor, context: torch.Tensor, pooled: torch.Tensor, guidance: torch.Tensor, where: torch.Tensor = EVERYWHERE
) -> torch.Tensor:
    """The predicted velocity, packed like `x` [B, N, 64], in float32; `t` and `guidance` are [B], `where` [N] says which tokens of the picture `x` has."""
    with mixed_precision():
        return model(
            hidden_states=x,
            timestep=t,
            guidance=guidance,
            encoder_hidden_states=context,
            pooled_projections=pooled,
            txt_ids=_TEXT_IDS[: context.shape[1]],
            img_ids=_IMAGE_IDS[where],
            return_dict=False,
        )[0].float()


def shifted(t: torch.Tensor, shift: float = SHIFT) -> torch.Tensor:
    return shift * t / (1 + (shift - 1) * t)


def random_times(count: int, generator: torch.Generator) -> torch.Tensor:
    """Shifted toward noise, where captions decide; a fifth are uniform in 0.85…1."""
    t = shifted(torch.rand(count, generator=generator))
    late = torch.rand(count, generator=generator) < 0.2
    return torch.where(late, 0.85 + 0.15 * torch.rand(count, generator=generator), t)


def guided(model, x, t, context, pooled, empty, guidance: torch.Tensor) -> torch.Tensor:
    """Classifier-free guidance in two passes: away from `empty`, the encoded empty caption, by `guidance` [B]."""
    ones = torch.ones_like(t)
    v = velocity(model, x, t, context, pooled, ones)
    blank = velocity(model, x, t, empty[0].expand_as(context), empty[1].expand_as(pooled), ones)
    return blank + guidance[:, None, None] * (v - blank)


def schedule(steps: int, shift: float = SHIFT) -> torch.Tensor:
    """[steps + 1] times from 1 to 0."""
    return torch.cat([shifted(torch.linspace(1, 1 / steps, steps), shift), torch.zeros(1)])


def starting_noise(count: int, seed: int) -> torch.Tensor:
    """[B, G², 64], each from its own seed, the same on every device."""
    return torch.stack([torch.randn(GRID**2, CHANNELS, generator=torch.Generator().manual_seed(seed + i)) for i in range(count)]).to(DEVICE)


@torch.no_grad()
def sample(model, context, pooled, seed: int, steps: int, guidance: float, empty=None) -> torch.Tensor:
    """Euler steps from noise to latents [B, 16, 16, 16]: two passes a step with `empty`, one without, for a model with distilled guidance."""
    x, times = starting_noise(len(context), seed), schedule(steps)
    scale = torch.full((len(x),), guidance, device=DEVICE)
    for now, after in zip(times[:-1], times[1:]):
        t = torch.full((len(x),), float(now), device=DEVICE)
        v = guided(model, x, t, context, pooled, empty, scale) if empty else velocity(model, x, t, context, pooled, scale)
        x = x + float(after - now) * v
    return unpack(x)
