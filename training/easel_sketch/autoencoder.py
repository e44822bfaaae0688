"""Trains the autoencoder: 256 × 256 pictures to 16 × 16 latents of 16 channels and back.

    python -m easel_sketch.autoencoder --work WORK --steps 4000

Random 128 × 128 crops stand in for whole pictures most of the time (the network is fully convolutional). Each latent channel is
held near zero mean and unit variance, and the decoder sees latents with noise, so that it forgives a diffusion model's errors.
"""

import argparse
import random
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL

from .bank import ArtBank
from .common import (
    DEVICE,
    Average,
    averaged_weights,
    end_of_run,
    is_time_up,
    learning_rate,
    load_checkpoint,
    restore_training,
    save_sheet,
    save_training,
    to_pictures,
    to_tensor,
)
from .scenes import SIZE, random_scene

WIDTHS = (16, 24, 48, 96, 128)
LATENT_CHANNELS = 16
NOISE = 0.12  # added to latents of unit variance
CROP = 128


def build(widths: tuple[int, ...] = WIDTHS) -> AutoencoderKL:
    levels = len(widths)
    model = AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * levels,
        up_block_types=("UpDecoderBlock2D",) * levels,
        block_out_channels=tuple(widths),
        layers_per_block=1,
        latent_channels=LATENT_CHANNELS,
        norm_num_groups=1,  # groups of few channels lose flat colours
        sample_size=SIZE,
        scaling_factor=1.0,
        shift_factor=0.0,
        use_quant_conv=False,
        use_post_quant_conv=False,
        mid_block_add_attention=False,
    )
    start_straight(model)
    return model


@torch.no_grad()
def start_straight(model: AutoencoderKL) -> None:
    """Initialises the network as a 16 × 16 box average followed by a blurry enlargement, plus small random weights.

    Colours travel in channels 0–2 and, negated, in 4–6, because silu(x) − silu(−x) = x. Channels 3 and 7 carry a constant larger than
    any colour: without it the normalisation of a flat picture removes its brightness, and training stays there for long.
    """
    colour, negative, constant, carrier = (0, 1, 2), (4, 5, 6), (3, 7), 2.0

    def small(layer, scale: float = 0.3) -> None:
        layer.weight *= scale
        if layer.bias is not None:
            layer.bias.zero_()

    for module in model.modules():
        kind = type(module).__name__
        if kind == "ResnetBlock2D":
            torch.nn.init.zeros_(module.conv2.weight)
            torch.nn.init.zeros_(module.conv2.bias)
            if module.conv_shortcut is not None:
                small(module.conv_shortcut)
                for k in range(min(module.conv_shortcut.weight.shape[:2])):
                    module.conv_shortcut.weight[k] = 0 if k < 8 else module.conv_shortcut.weight[k]
                    module.conv_shortcut.weight[k, k] += 1
        elif kind == "Downsample2D":
            small(module.conv)
            for k in range(module.conv.weight.shape[0]):
                module.conv.weight[k] = 0 if k < 8 else module.conv.weight[k]
                module.conv.weight[k, k, :2, :2] += 0.25 if k < 8 else 0.5
        elif kind == "Upsample2D":
            small(module.conv)
            for k in range(module.conv.weight.shape[0]):
                module.conv.weight[k] = 0 if k < 8 else module.conv.weight[k]
                module.conv.weight[k, k] += 1 / 9 if k < 8 else 0.2
    for layer in (model.encoder.conv_in, model.decoder.conv_in):
        layer.weight[:8] = 0
        layer.bias[:8] = 0
        for plus, minus in zip(colour, negative):
            layer.weight[plus, plus, 1, 1], layer.weight[minus, plus, 1, 1] = 1, -1
        layer.bias[constant[0]], layer.bias[constant[1]] = carrier, -carrier
    for layer in (model.encoder.conv_out, model.decoder.conv_out):
        small(layer)
        for plus, minus in zip(colour, negative):
            layer.weight[plus] = 0
            layer.weight[plus, plus, 1, 1], layer.weight[plus, minus, 1, 1] = 1, -1


def encode_mean(model: AutoencoderKL, pixels: torch.Tensor) -> torch.Tensor:
    """[B, 3, H, W] → [B, 16, H/16, W/16], the mean of the posterior."""
    return model.encoder(pixels)[:, :LATENT_CHANNELS]


def reconstruction_loss(output: torch.Tensor, target: torch.Tensor, early: bool = False) -> torch.Tensor:
    """L1 of the pixels and of their horizontal and vertical differences (edges).

    `early` leaves the edges out: while edges are still misplaced, that term only rewards flat pictures.
    """
    if early:
        return F.mse_loss(output, target) + 0.3 * F.l1_loss(output, target)
    loss = F.l1_loss(output, target)
    for axis in (2, 3):
        loss = loss + 0.5 * F.l1_loss(output.diff(dim=axis), target.diff(dim=axis))
    return loss + 0.5 * F.mse_loss(output, target)


def moment_loss(latents: torch.Tensor) -> torch.Tensor:
    """Holds every channel near zero mean and unit variance."""
    variance, mean = torch.var_mean(latents, dim=(0, 2, 3))
    return mean.square().mean() + (variance + 1e-4).log().square().mean()


class Renders(torch.utils.data.Dataset):
    """Scene `i` of a seed, rendered."""

    def __init__(self, work: Path, count: int, seed: int, held_out: bool):
        self.work, self.count, self.seed, self.held_out, self.bank = work, count, seed, held_out, None

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, i: int) -> np.ndarray:
        self.bank = self.bank or ArtBank(self.work)
        rng = random.Random(1_000_000 * self.seed + i)
        return self.bank.render(random_scene(rng, self.held_out), rng)[0]


class Pictures:
    """A pool of rendered scenes, from which crops and full frames are drawn."""

    def __init__(self, work: Path, count: int, seed: int, held_out: bool = False, workers: int = 0):
        loader = torch.utils.data.DataLoader(Renders(work, count, seed, held_out), None, num_workers=workers, collate_fn=lambda picture: picture)
        self.pool = np.stack(list(loader))

    def full_frames(self, rng: random.Random, count: int) -> torch.Tensor:
        return to_tensor(self.pool[rng.sample(range(len(self.pool)), count)])

    def crops(self, rng: random.Random, count: int) -> torch.Tensor:
        views = []
        for index in rng.sample(range(len(self.pool)), count):
            y, x = rng.randrange(SIZE - CROP + 1), rng.randrange(SIZE - CROP + 1)
            views.append(self.pool[index, y : y + CROP, x : x + CROP])
        return to_tensor(np.stack(views))


def psnr(output: torch.Tensor, target: torch.Tensor) -> float:
    """Mean over pictures, in decibels, of 8-bit-like pixels in −1…1."""
    error = (output.clamp(-1, 1) - target).square().mean(dim=(1, 2, 3)) / 4
    return float((-10 * error.log10()).mean())


@torch.no_grad()
def evaluate(model: AutoencoderKL, pixels: torch.Tensor, sheet: Path | None = None) -> float:
    model.eval()
    outputs = torch.cat([model.decoder(encode_mean(model, part.to(DEVICE))).cpu() for part in pixels.split(4)])
    if sheet:
        pairs = [picture for pair in zip(to_pictures(pixels[:8]), to_pictures(outputs[:8])) for picture in pair]
        save_sheet(sheet, pairs, columns=4)
    return psnr(outputs, pixels)


@torch.no_grad()
def normalise(model: AutoencoderKL, pixels: torch.Tensor) -> None:
    """Folds zero mean and unit variance per latent channel into the convolutions next to the latents.

    Writes the posterior's variance as a constant, NOISE².
    """
    latents = torch.cat([encode_mean(model, part.to(DEVICE)) for part in pixels.split(4)])
    variance, mean = torch.var_mean(latents, dim=(0, 2, 3))
    deviation = variance.sqrt()
    out, into = model.encoder.conv_out, model.decoder.conv_in
    out.weight[:LATENT_CHANNELS] /= deviation[:, None, None, None]
    out.bias[:LATENT_CHANNELS] = (out.bias[:LATENT_CHANNELS] - mean) / deviation
    out.weight[LATENT_CHANNELS:] = 0
    out.bias[LATENT_CHANNELS:] = 2 * np.log(NOISE)
    # Exact inside; at the border the zero padding now stands for the mean, which the remaining steps get used to.
    into.bias += (into.weight * mean[:, None, None]).sum(dim=(1, 2, 3))
    into.weight *= deviation[:, None, None]


def train(options: argparse.Namespace) -> None:
    """Goes on from the checkpoint where there is one."""
    work, steps, decoder_only = options.work, options.steps, options.decoder_only
    torch.manual_seed(1)
    checkpoint = work / ("decoder.pt" if decoder_only else "autoencoder.pt")
    model = load(work).train() if decoder_only else build(options.widths)
    model.to(DEVICE, memory_format=torch.channels_last)
    average = Average(model, 0.995)
    if decoder_only:
        model.encoder.requires_grad_(False)
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=options.rate, betas=(0.9, 0.99), weight_decay=0.0)
    start = restore_training(checkpoint, model, average, [optimizer])
    if start >= steps:
        return

    pictures = Pictures(work, options.pool, seed=2 + start, workers=options.workers)
    held_out = to_tensor(Pictures(work, 64, seed=1, held_out=True).pool).to(memory_format=torch.channels_last)
    rng = random.Random(3 + start)
    normalise_at = int(0.85 * steps)
    shown = build(options.widths).to(DEVICE, memory_format=torch.channels_last)
    recent, started = [], time.time()

    for step in range(start, stop := min(steps, start + options.part)):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, options.rate, decay_from=0.6)
        # Whole pictures come late: they cost as much as four crops and only teach the normalisation's scale.
        whole = step % 5 == 4 and (decoder_only or step > 0.5 * steps)
        pixels = pictures.full_frames(rng, max(1, options.crops // 4)) if whole else pictures.crops(rng, options.crops)
        pixels = pixels.to(DEVICE, memory_format=torch.channels_last)
        with torch.set_grad_enabled(not decoder_only):
            latents = model.encoder(pixels)[:, :LATENT_CHANNELS]
        regular = moment_loss(latents)
        loss = reconstruction_loss(model.decoder(latents + NOISE * torch.randn_like(latents)), pixels, early=not decoder_only and step < 0.25 * steps)
        optimizer.zero_grad(set_to_none=True)
        (loss if decoder_only else loss + 0.01 * regular).backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update(model)
        recent.append(loss.detach())
        if step == normalise_at and not decoder_only:
            average.copy_to(model)
            normalise(model, pictures.full_frames(rng, min(200, options.pool)))
            average = Average(model, 0.995)
            optimizer.state.clear()
        ends = step + 1 == stop or is_time_up()
        if step % 50 == 49 or ends:
            mean = torch.stack(recent).mean()
            print(f"step {step + 1} loss {mean:.4f} moments {regular:.3f} {(time.time() - started) / (step - start + 1):.3f} s/step", flush=True)
            recent = []
        if step % options.save_every == options.save_every - 1 or ends:
            save_training(checkpoint, model, average, [optimizer], step + 1, widths=list(options.widths))
            shown.load_state_dict(model.state_dict())
            average.copy_to(shown)
            print(f"step {step + 1} PSNR {evaluate(shown, held_out[:24], work / 'sheets/autoencoder.png'):.2f} dB", flush=True)
        if ends:
            break
    end_of_run(step + 1, stop)


def load(work: Path) -> AutoencoderKL:
    """The trained autoencoder (averaged weights), with the fine-tuned decoder where there is one."""
    states = [load_checkpoint(work / name) for name in ("autoencoder.pt", "decoder.pt") if (work / name).exists()]
    model = build(states[0].get("widths", WIDTHS))
    for state in states:
        model.load_state_dict(averaged_weights(state))
    return model.eval()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the art bank, checkpoints and sheets")
    parser.add_argument("--steps", type=int, default=4000, help="length of the whole run")
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--decoder-only", action="store_true", help="fine-tune the decoder; latents stay as they are")
    parser.add_argument("--rate", type=float, default=1.5e-3, help="peak learning rate")
    parser.add_argument("--widths", type=int, nargs="+", default=WIDTHS, help="of the network's levels, from the pixels down")
    parser.add_argument("--crops", type=int, default=4, help="of a step; a quarter as many whole pictures")
    parser.add_argument("--pool", type=int, default=3000, help="rendered scenes to take crops from")
    parser.add_argument("--workers", type=int, default=0, help="processes that render")
    parser.add_argument("--save-every", type=int, default=500)
    parser.add_argument("--threads", type=int, default=2)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments)
