"""Writes the trained parts as a diffusers folder that stock FluxPipeline loads.

    python -m easel_sketch.export --work WORK --to ../models/easel-sketch

The folder is built beside its place and then renamed, so that readers never see half of it. README.md and the pictures beside it are kept.
"""

import argparse
import json
import shutil
from pathlib import Path

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, FluxTransformer2DModel
from sentencepiece import sentencepiece_model_pb2

from . import autoencoder, flow, text_encoders
from .tokenizers import T5_LENGTH
from .transformer import averaged

MODEL_INDEX = {
    "_class_name": "FluxPipeline",
    "_diffusers_version": "0.42.1",
    "feature_extractor": [None, None],
    "image_encoder": [None, None],
    "scheduler": ["diffusers", "FlowMatchEulerDiscreteScheduler"],
    "text_encoder": ["transformers", "CLIPTextModel"],
    "text_encoder_2": ["transformers", "T5EncoderModel"],
    "tokenizer": ["transformers", "CLIPTokenizer"],
    "tokenizer_2": ["transformers", "T5TokenizerFast"],
    "transformer": ["diffusers", "FluxTransformer2DModel"],
    "vae": ["diffusers", "AutoencoderKL"],
}


def write_tokenizers(tokens: text_encoders.Tokens, work: Path, folder: Path) -> None:
    """Both tokenizers, with the older file layouts (vocab.json and merges.txt, spiece.model) beside tokenizer.json."""
    tokens.clip.save_pretrained(folder / "tokenizer")
    model = json.loads(tokens.clip.backend_tokenizer.to_str())["model"]
    (folder / "tokenizer/vocab.json").write_text(json.dumps(model["vocab"], ensure_ascii=False))
    merges = [" ".join(merge) if isinstance(merge, list) else merge for merge in model["merges"]]
    (folder / "tokenizer/merges.txt").write_text("\n".join(["#version: 0.2", *merges]) + "\n")
    tokens.t5.save_pretrained(folder / "tokenizer_2")
    # The trainer notes where its files lay on this machine: nobody else's business.
    pieces = sentencepiece_model_pb2.ModelProto.FromString((work / "tokenizer_2/spiece.model").read_bytes())
    pieces.trainer_spec.ClearField("input")
    pieces.trainer_spec.ClearField("model_prefix")
    (folder / "tokenizer_2/spiece.model").write_bytes(pieces.SerializeToString())
    for name, tokenizer in (("tokenizer", tokens.clip), ("tokenizer_2", tokens.t5)):
        configuration = folder / name / "tokenizer_config.json"
        settings = json.loads(configuration.read_text())
        for machine_specific in ("is_local", "local_files_only"):
            settings.pop(machine_specific, None)
        configuration.write_text(json.dumps(settings, indent=2) + "\n")
        (folder / name / "special_tokens_map.json").write_text(json.dumps(tokenizer.special_tokens_map, indent=2) + "\n")


@torch.no_grad()
def without_guidance(model):
    """The same transformer without its guidance embedding, which only ever saw 1.0: its output is a constant, folded into a bias."""
    embedding = model.time_text_embed
    constant = embedding.guidance_embedder(embedding.time_proj(torch.tensor([1000.0])))[0]
    folded = FluxTransformer2DModel.from_config({**model.config, "guidance_embeds": False})
    state = {key: value for key, value in model.state_dict().items() if "guidance_embedder" not in key}
    state["time_text_embed.timestep_embedder.linear_2.bias"] = state["time_text_embed.timestep_embedder.linear_2.bias"] + constant
    folded.load_state_dict(state)
    return folded.eval()


@torch.no_grad()
def export(options: argparse.Namespace) -> None:
    work, target = options.work, options.to
    fresh, old = target.with_name(f".{target.name}.new"), target.with_name(f".{target.name}.old")
    for folder in (fresh, old):
        shutil.rmtree(folder, ignore_errors=True)
    fresh.mkdir(parents=True)

    tokens = text_encoders.Tokens(work)
    encoders = text_encoders.load(work, tokens)
    transformer = averaged(work, options.checkpoint, heads=options.heads, double=options.double, single=options.single)
    ready = transformer if options.distilled else without_guidance(transformer)
    ready.half().save_pretrained(fresh / "transformer")
    autoencoder.load(work).half().save_pretrained(fresh / "vae")
    encoders["clip"].half().save_pretrained(fresh / "text_encoder")
    encoders["t5"].half().save_pretrained(fresh / "text_encoder_2")
    write_tokenizers(tokens, work, fresh)
    FlowMatchEulerDiscreteScheduler(shift=flow.SHIFT, use_dynamic_shifting=False).save_pretrained(fresh / "scheduler")
    (fresh / "model_index.json").write_text(json.dumps(MODEL_INDEX, indent=2) + "\n")
    defaults = {
        "name": "easel-sketch",
        "nativeSize": autoencoder.SIZE,
        "steps": options.steps,
        **({"guidanceScale": options.guidance} if options.distilled else {"guidanceScale": 0, "trueCfgScale": options.guidance}),
        "maxSequenceLength": T5_LENGTH,
        "license": "MIT",
    }
    (fresh / "easel.json").write_text(json.dumps(defaults, indent=2) + "\n")
    for kept in ("README.md", "samples.png", "styles.jpg"):
        if (target / kept).exists():
            shutil.copy(target / kept, fresh)
    if target.exists():
        target.rename(old)
    fresh.rename(target)
    shutil.rmtree(old, ignore_errors=True)
    print(f"{sum(f.stat().st_size for f in target.rglob('*') if f.is_file()) / 1e6:.1f} MB in {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--checkpoint", default="transformer")
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=20, help="default steps, written to easel.json")
    parser.add_argument("--guidance", type=float, default=3.0, help="default scale of guidance, written to easel.json")
    parser.add_argument("--distilled", action="store_true", help="the checkpoint has guidance in its embedding (easel_sketch.distil): one pass a step")
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--double", type=int, default=2)
    parser.add_argument("--single", type=int, default=4)
    export(parser.parse_args())
