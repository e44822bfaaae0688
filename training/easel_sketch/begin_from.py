"""Turns an exported folder back into checkpoints, so that training can go on from it.

    python -m easel_sketch.begin_from ../models/easel-sketch --work WORK

The networks' sizes must be those that the folder was made with. The vocabulary may have grown: where WORK has tokenizers of its own, each
of their tokens begins as the mean of what the folder's encoders knew of its text, and the encoders learn the rest by
`text_encoders --widen` and beside the transformer (`transformer --read`).
"""

import argparse
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FluxTransformer2DModel
from torch import nn
from transformers import CLIPTextModel, T5EncoderModel

from . import flow, text_encoders, tokenizers
from .common import save_checkpoint


def begin(folder: Path, work: Path) -> None:
    autoencoder = AutoencoderKL.from_pretrained(folder / "vae").float()
    save_checkpoint(work / "autoencoder.pt", model=autoencoder.state_dict(), widths=list(autoencoder.config.block_out_channels))
    save_checkpoint(work / "text_encoders.pt", models=begin_encoders(folder, work).state_dict())
    transformer = FluxTransformer2DModel.from_pretrained(folder / "transformer").float()
    save_checkpoint(work / "transformer-begun.pt", model=with_guidance(transformer))


def begin_encoders(folder: Path, work: Path) -> nn.ModuleDict:
    """The folder's text encoders for WORK's tokenizers, which are the folder's own where there are none."""
    clip = CLIPTextModel.from_pretrained(folder / "text_encoder").float()
    t5 = T5EncoderModel.from_pretrained(folder / "text_encoder_2").float()
    for name in ("tokenizer", "tokenizer_2"):
        if not (work / name).exists():
            shutil.copytree(folder / name, work / name)
    tokens = text_encoders.Tokens(work)
    old_clip, old_t5 = tokenizers.load(folder)
    grown = text_encoders.new_models(tokens, clip_layers=clip.config.num_hidden_layers)
    for name, old, old_tokenizer, tokenizer in (("clip", clip, old_clip, tokens.clip), ("t5", t5, old_t5, tokens.t5)):
        embeddings = as_new_tokens(old.get_input_embeddings().weight, old_tokenizer, tokenizer)
        old.set_input_embeddings(nn.Embedding.from_pretrained(embeddings))
        grown[name].load_state_dict(old.state_dict())
    return grown


@torch.no_grad()
def as_new_tokens(embeddings: torch.Tensor, old, new) -> torch.Tensor:
    """For each token of `new`, the mean of the embeddings of the tokens that `old` reads in its text; special tokens keep theirs."""
    specials = dict(zip(new.all_special_tokens, new.all_special_ids))
    rows = []
    for token, i in sorted(new.get_vocab().items(), key=lambda entry: entry[1]):
        if i in specials.values():
            ids = [old.convert_tokens_to_ids(token)]
        elif (known := old.get_vocab().get(token)) is not None:
            ids = [known]
        else:
            ids = old(new.convert_tokens_to_string([token]), add_special_tokens=False).input_ids
        rows.append(embeddings[ids].mean(0) if ids else torch.zeros_like(embeddings[0]))
    return torch.stack(rows)


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
