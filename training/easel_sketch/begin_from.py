"""Turns an exported folder back into checkpoints, so that training can go on from it.

    python -m easel_sketch.begin_from ../models/easel-sketch --work WORK

The vocabulary and the networks' sizes must be those that the folder was made with.
"""

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from transformers import CLIPTextModel, T5EncoderModel

from . import flow
from .common import save_checkpoint


def begin(folder: Path, work: Path) -> None:
    for name in ("tokenizer", "tokenizer_2"):
        shutil.copytree(folder / name, work / name, dirs_exist_ok=True)
    autoencoder = AutoencoderKL.from_pretrained(folder / "vae").float()
    save_checkpoint(work / "autoencoder.pt", model=autoencoder.state_dict(), widths=list(autoencoder.config.block_out_channels))
    encoders = torch.nn.ModuleDict(
        {
            "clip": CLIPTextModel.from_pretrained(folder / "text_encoder").float(),
            "t5": T5EncoderModel.from_pretrained(folder / "text_encoder_2").float(),
        }
    )
    save_checkpoint(work / "text_encoders.pt", models=encoders.state_dict())
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer").float()
    save_checkpoint(work / "transformer.pt", model=with_guidance(transformer), step=0)


def with_guidance(model: FluxTransformer2DModel) -> dict[str, torch.Tensor]:
    """The weights in `flow.build`'s shape; a guidance embedding that was folded away comes back as one that adds nothing."""
    config = model.config
    fresh = flow.build(config.num_attention_heads, config.num_layers, config.num_single_layers)
    weights = fresh.state_dict() | model.state_dict()
    for name in weights:
        if not config.guidance_embeds and "guidance_embedder.linear_2" in name:
            weights[name] = torch.zeros_like(weights[name])
    return weights


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--work", type=Path, required=True)
    arguments = parser.parse_args()
    begin(arguments.folder, arguments.work)
