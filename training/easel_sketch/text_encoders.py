"""Trains both text encoders to name what a caption says; afterwards they are frozen.

    python -m easel_sketch.text_encoders --work WORK

The T5 encoder gives the context (one vector a token), the CLIP text model the pooled vector. Auxiliary heads must answer QUESTIONS
from either; the transformer can only learn to draw what these features tell apart. Encoding is exactly FluxPipeline's: padded to
the full length, without an attention mask for T5. Goes on from its checkpoint when run again.
"""

import argparse
import os
import random
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from . import tokenizers
from .captions import caption, load_strangers
from .common import learning_rate, load_checkpoint, save_checkpoint
from .scenes import EVERYTHING, LARGEST_COUNT, SIZES, Scene, Thing, random_scene
from .tokenizers import T5_LENGTH
from .vocabulary import BACKGROUNDS, COLOURS, NOUNS, STYLES, TIMES

WIDTH = 256
LAYERS = 3
BATCH = 64
RATE = 1.5e-3
NEAR_SHARE = 0.3  # of the names while training: there are more words near the things than things
SHORT_SHARE = 0.3  # of the captions name one thing and little else
RELATIONS = ["one thing", "side by side", "one above the other", "three things"]
_NOUN_INDEX = {name: i for i, name in enumerate(NOUNS)}
_THING_QUESTIONS = {
    "noun": len(NOUNS) + 1,
    "colour": len(COLOURS) + 2,
    "count": LARGEST_COUNT + 1,
    "size": len(SIZES) + 2,
}
# What the heads answer, and between how many answers each chooses. The last answer about a thing is that there is none.
QUESTIONS = {
    **_THING_QUESTIONS,
    "place": len(BACKGROUNDS),
    "time": len(TIMES) + 1,
    "style": len(STYLES) + 1,
    "relation": len(RELATIONS),
    "pose": 2,
    **{f"second {name}": size for name, size in _THING_QUESTIONS.items()},
    "third noun": len(NOUNS) + 1,
}


def in_order(scene: Scene) -> list[Thing]:
    """The things as one reads them: from the left, or from above."""
    return list(reversed(scene.things)) if scene.relation in ("right", "below") else list(scene.things)


def answers(scene: Scene) -> list[int]:
    """One index for each of QUESTIONS; a natural look counts as its own colour."""
    things: list[Thing | None] = [*in_order(scene), None, None]

    def about(thing: Thing | None) -> list[int]:
        if thing is None:
            return [size - 1 for size in _THING_QUESTIONS.values()]
        return [
            _NOUN_INDEX[thing.noun],
            COLOURS.index(thing.colour) if thing.colour else len(COLOURS),
            thing.count - 1,
            SIZES.index(thing.size) if thing.size else len(SIZES),
        ]

    relation = 2 if scene.relation in ("above", "below") else min(1, len(scene.things) - 1)
    return [
        *about(things[0]),
        BACKGROUNDS.index(scene.place),
        list(TIMES).index(scene.time) if scene.time else len(TIMES),
        list(STYLES).index(scene.style) if scene.style else len(STYLES),
        3 if len(scene.things) == 3 else relation,
        int(any(thing.pose for thing in scene.things)),
        *about(things[1]),
        about(things[2])[0],
    ]


def build(clip_size: int, clip_end: int, t5_size: int) -> nn.ModuleDict:
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=clip_size,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=LAYERS,
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
            num_layers=LAYERS,
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


class Examples:
    """Captions as token ids, with the answers."""

    def __init__(self, work: Path, tokens: Tokens, seed: int, near: float = NEAR_SHARE):
        self.tokens, self.near = tokens, near
        self.strangers = load_strangers(work)
        self.rng = random.Random(seed)

    def next(self, count: int, held_out: float = 0.0, short: float = SHORT_SHARE) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        scenes = [self._scene(held_out, short) for _ in range(count)]
        captions = [caption(scene, self.rng, self.strangers, self.near) for scene in scenes]
        return *self.tokens(captions), torch.tensor([answers(scene) for scene in scenes])

    def _scene(self, held_out: float, short: float) -> Scene:
        scene = random_scene(self.rng, self.rng.random() < held_out, EVERYTHING)
        if self.rng.random() < short:
            return Scene((scene.things[0],), style=scene.style)
        return scene


@torch.no_grad()
def accuracy(models: nn.ModuleDict, reader: Reader, examples: Examples, count: int = 2000, held_out: float = 0.5) -> dict[str, tuple[float, float]]:
    """Share of right answers on fresh captions: (from context, from pooled)."""
    models.eval()
    right = torch.zeros(len(QUESTIONS), 2)
    for _ in range(count // 100):
        clip_ids, t5_ids, labels = examples.next(100, held_out, short=0)
        outputs = reader(*encode(models, clip_ids, t5_ids))
        right += torch.stack([torch.stack([(o.argmax(-1) == labels[:, i]).float().sum() for o in pair]) for i, pair in enumerate(outputs)])
    models.train()
    return {name: tuple(round(share, 4) for share in (right[i] / (count // 100 * 100)).tolist()) for i, name in enumerate(QUESTIONS)}


def _table(shares: dict[str, tuple[float, float]]) -> str:
    return ", ".join(f"{name} {100 * a:.1f}/{100 * b:.1f}" for name, (a, b) in shares.items())


@torch.no_grad()
def normalise(models: nn.ModuleDict, examples: Examples) -> None:
    """Scales both features to unit variance through the weights of the final layer norms."""
    clip_ids, t5_ids, _ = examples.next(1000)
    context, pooled = encode(models, clip_ids, t5_ids)
    models["t5"].encoder.final_layer_norm.weight /= context.std()
    final = models["clip"].text_model.final_layer_norm if hasattr(models["clip"], "text_model") else models["clip"].final_layer_norm
    final.weight /= pooled.std()
    final.bias /= pooled.std()


def new_models(tokens: Tokens) -> nn.ModuleDict:
    return build(len(tokens.clip), tokens.clip.eos_token_id, len(tokens.t5))


def load(work: Path, tokens: Tokens) -> nn.ModuleDict:
    """The encoders that a finished training wrote."""
    models = new_models(tokens)
    models.load_state_dict(load_checkpoint(work / "text_encoders.pt")["models"])
    return models.eval().requires_grad_(False)


def train(work: Path, steps: int, part: int, device: str) -> None:
    torch.manual_seed(4)
    tokens = Tokens(work)
    models, reader = new_models(tokens).to(device), Reader().to(device)
    parameters = [*models.parameters(), *reader.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True)
    checkpoint = work / "text_encoders-training.pt"
    start = 0
    if checkpoint.exists():
        state = load_checkpoint(checkpoint)
        models.load_state_dict(state["models"])
        reader.load_state_dict(state["reader"])
        optimizer.load_state_dict(state["optimizer"])
        start = state["step"]
    examples = Examples(work, tokens, seed=6 + start)

    def save(step: int) -> None:
        save_checkpoint(checkpoint, models=models.state_dict(), reader=reader.state_dict(), optimizer=optimizer.state_dict(), step=step)

    stop = min(steps, start + part)
    started = time.time()
    for step in range(start, stop):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, RATE, decay_from=0.4)
        clip_ids, t5_ids, labels = (x.to(device) for x in examples.next(BATCH))
        with torch.autocast(device, torch.bfloat16):
            outputs = reader(*encode(models, clip_ids, t5_ids))
        loss = sum(F.cross_entropy(o.float(), labels[:, i]) for i, pair in enumerate(outputs) for o in pair)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        if step % 100 == 99:
            print(f"step {step + 1} loss {loss:.4f} {(time.time() - started) / (step - start + 1):.3f} s/step", flush=True)
        if step % 500 == 499:
            save(step + 1)
        if step % 1000 == 999:
            report(work, models.cpu(), reader.cpu(), tokens)
            models.to(device), reader.to(device)
    save(stop)
    if stop == steps:
        models.cpu(), reader.cpu()
        report(work, models, reader, tokens)
        normalise(models, Examples(work, tokens, seed=5))
        save_checkpoint(work / "text_encoders.pt", models=models.state_dict())


def report(work: Path, models: nn.ModuleDict, reader: Reader, tokens: Tokens) -> None:
    """Prints the accuracies on captions that training has not seen, from context and from pooled, in per cent."""
    print("ordinary captions, half of held-out combinations:", _table(accuracy(models, reader, Examples(work, tokens, 99, near=0.0))), flush=True)
    near = accuracy(models, reader, Examples(work, tokens, 98, near=1.0))
    print("things called by a word near them:", _table({"noun": near["noun"]}), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of art.zip and the tokenizers; receives text_encoders.pt")
    parser.add_argument("--steps", type=int, default=12_000, help="length of the whole run")
    parser.add_argument("--part", type=int, default=10**9, help="stop after this many steps; run again to go on")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.work, arguments.steps, arguments.part, arguments.device)
