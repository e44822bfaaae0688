"""Trains both text encoders to name what a caption says; afterwards they are frozen.

    python -m easel_sketch.text_encoders --work WORK --steps 1500

The T5 encoder gives the context (one vector a token), the CLIP text model the pooled vector. Auxiliary heads must read nouns,
colours, place and the number of things from either; the transformer can only learn to draw what these features tell apart.
Encoding is exactly FluxPipeline's: padded to the full length, without an attention mask for T5.
"""

import argparse
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from . import tokenizers
from .captions import caption
from .common import learning_rate, load_checkpoint, save_checkpoint
from .scenes import Scene, random_scene
from .tokenizers import T5_LENGTH
from .vocabulary import BACKGROUNDS, COLOURS, NOUNS

WIDTH = 256
BATCH = 64
RATE = 1.5e-3
_NOUN_INDEX = {name: i for i, name in enumerate(NOUNS)}
# What the heads answer, and between how many answers each chooses. For a second thing the last answer means "none".
QUESTIONS = {
    "noun": len(NOUNS),
    "colour": len(COLOURS) + 1,
    "place": len(BACKGROUNDS),
    "second noun": len(NOUNS) + 1,
    "second colour": len(COLOURS) + 2,
}


def answers(scene: Scene) -> list[int]:
    """One index for each of QUESTIONS; a natural look counts as its own colour."""

    def colour(thing) -> int:
        return COLOURS.index(thing.colour) if thing.colour else len(COLOURS)

    first, second = scene.things[0], scene.things[1] if len(scene.things) > 1 else None
    return [
        _NOUN_INDEX[first.noun],
        colour(first),
        BACKGROUNDS.index(scene.place),
        _NOUN_INDEX[second.noun] if second else len(NOUNS),
        colour(second) if second else len(COLOURS) + 1,
    ]


def build(clip_size: int, clip_end: int, t5_size: int) -> nn.ModuleDict:
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=clip_size,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=tokenizers.CLIP_LENGTH,
            hidden_act="quick_gelu",
            bos_token_id=clip_end - 1,
            eos_token_id=clip_end,
            pad_token_id=clip_end,
        )
    )
    t5 = T5EncoderModel(
        T5Config(
            vocab_size=t5_size,
            d_model=WIDTH,
            d_kv=64,
            num_heads=4,
            d_ff=512,
            num_layers=3,
            feed_forward_proj="gated-gelu",
            dropout_rate=0.0,
            pad_token_id=0,
            eos_token_id=1,
            decoder_start_token_id=0,
        )
    )
    return nn.ModuleDict({"clip": clip, "t5": t5})


class Reader(nn.Module):
    """Heads on both features: a query for each question attends over the context, linear layers read the pooled vector."""

    def __init__(self):
        super().__init__()
        self.queries = nn.Parameter(torch.randn(len(QUESTIONS), WIDTH) / WIDTH**0.5)
        self.from_context = nn.ModuleList(nn.Linear(WIDTH, size) for size in QUESTIONS.values())
        self.from_pooled = nn.ModuleList(nn.Linear(WIDTH, size) for size in QUESTIONS.values())

    def forward(self, context: torch.Tensor, pooled: torch.Tensor) -> list[tuple[torch.Tensor, torch.Tensor]]:
        weights = torch.einsum("qd,btd->bqt", self.queries, context).softmax(dim=-1)
        read = torch.einsum("bqt,btd->bqd", weights, context)
        return [(a(read[:, i]), b(pooled)) for i, (a, b) in enumerate(zip(self.from_context, self.from_pooled))]


class Tokens:
    """Turns captions into the id tensors FluxPipeline would make.

    The CLIP model is causal and pooled at the end token, so its padding is cut off: the result is the same.
    """

    def __init__(self, work: Path):
        self.clip, self.t5 = tokenizers.load(work)

    def __call__(self, captions: list[str]) -> tuple[torch.Tensor, torch.Tensor]:
        clip = self.clip(captions, padding="longest", truncation=True, return_tensors="pt").input_ids
        t5 = self.t5(captions, padding="max_length", max_length=T5_LENGTH, truncation=True, return_tensors="pt").input_ids
        return clip, t5


def encode(models: nn.ModuleDict, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns context [B, 40, 256] and pooled [B, 256]."""
    return models["t5"](t5_ids)[0], models["clip"](clip_ids).pooler_output


def _examples(rng: random.Random, tokens: Tokens, count: int, held_out: bool):
    scenes = [random_scene(rng, held_out and rng.random() < 0.5) for _ in range(count)]
    clip_ids, t5_ids = tokens([caption(scene, rng) for scene in scenes])
    return clip_ids, t5_ids, torch.tensor([answers(scene) for scene in scenes])


@torch.no_grad()
def accuracy(models: nn.ModuleDict, reader: Reader, tokens: Tokens, count: int = 1000) -> dict[str, tuple[float, float]]:
    """Share of right answers on fresh captions, half of them of held-out combinations: (from context, from pooled)."""
    models.eval()
    clip_ids, t5_ids, labels = _examples(random.Random(99), tokens, count, held_out=True)
    outputs = reader(*encode(models, clip_ids, t5_ids))
    right = {name: [(o.argmax(-1) == labels[:, i]).float().mean().item() for o in outputs[i]] for i, name in enumerate(QUESTIONS)}
    models.train()
    return {name: (round(a, 4), round(b, 4)) for name, (a, b) in right.items()}


@torch.no_grad()
def normalise(models: nn.ModuleDict, tokens: Tokens) -> None:
    """Scales both features to unit variance through the weights of the final layer norms."""
    clip_ids, t5_ids, _ = _examples(random.Random(5), tokens, 1000, held_out=False)
    context, pooled = encode(models, clip_ids, t5_ids)
    models["t5"].encoder.final_layer_norm.weight /= context.std()
    final = models["clip"].text_model.final_layer_norm if hasattr(models["clip"], "text_model") else models["clip"].final_layer_norm
    final.weight /= pooled.std()
    final.bias /= pooled.std()


def new_models(tokens: Tokens) -> nn.ModuleDict:
    return build(len(tokens.clip), tokens.clip.eos_token_id, len(tokens.t5))


def load(work: Path, tokens: Tokens) -> nn.ModuleDict:
    models = new_models(tokens)
    models.load_state_dict(load_checkpoint(work / "text_encoders.pt")["models"])
    return models.eval().requires_grad_(False)


def train(work: Path, steps: int) -> None:
    torch.manual_seed(4)
    tokens = Tokens(work)
    models, reader = new_models(tokens), Reader()
    parameters = [*models.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    rng = random.Random(6)
    started = time.time()
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, RATE, decay_from=0.5)
        clip_ids, t5_ids, labels = _examples(rng, tokens, BATCH, held_out=False)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = reader(*encode(models, clip_ids, t5_ids))
        loss = sum(F.cross_entropy(o.float(), labels[:, i]) for i, pair in enumerate(outputs) for o in pair)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 0:
            print(f"step {step} loss {loss:.4f} {(time.time() - started) / (step + 1):.3f} s/step", flush=True)
        if step % 250 == 249:
            print(f"step {step + 1} accuracy {accuracy(models, reader, tokens)}", flush=True)
    print(f"final accuracy {accuracy(models, reader, tokens)}", flush=True)
    normalise(models, tokens)
    save_checkpoint(work / "text_encoders.pt", models=models.state_dict())


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of the tokenizers; receives text_encoders.pt")
    parser.add_argument("--steps", type=int, default=1500)
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    train(arguments.work, arguments.steps)
