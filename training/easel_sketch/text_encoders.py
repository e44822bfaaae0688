"""Trains both text encoders to name what a caption says and what it looks like; T5 may learn on while the transformer does.

    python -m easel_sketch.text_encoders --work WORK

The T5 encoder gives the context (one vector a token), the CLIP text model the pooled vector. `reading`'s heads must answer
from either; the transformer can only learn to draw what these features tell apart. Encoding is exactly FluxPipeline's: padded to
the full length, without an attention mask for T5. Both begin with what `lexicon` says of single words, or, with `--widen`,
with what they know. Goes on from its checkpoint when run again.
"""

import argparse
import copy
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import nn
from transformers import CLIPTextConfig, CLIPTextModel, T5Config, T5EncoderModel

from . import appearance, lexicon, reading, tokenizers
from .captions import load_strangers, named_caption
from .common import DEVICE, end_of_run, is_time_up, learning_rate, load_checkpoint, mixed_precision, save_checkpoint
from .muon import Muon
from .reading import NO_NOUN, OF_POOLED, Reader
from .scenes import COMMON, MIXES, Scene, random_scene
from .tokenizers import T5_LENGTH
from .vocabulary import BACKGROUNDS, COLOURS, NOUNS, STYLES

WIDTH = 256
LAYERS = 3
BATCH = 64
RATE = 1.5e-3
NEAR_SHARE = 0.3  # of the names while training: there are more words near the things than things
SHORT_SHARE = 0.3  # of the captions name one thing and little else
BIAS_RATE = 15  # times RATE: what T5's heads think of distances must grow to several units, as small steps never do
KNOWN_WEIGHT = 10.0  # of keeping what familiar captions told
FULL_SHARE = 0.3  # of the batches are padded to the full length


def build(clip_size: int, clip_end: int, t5_size: int, clip_layers: int = LAYERS) -> nn.ModuleDict:
    clip = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=clip_size,
            hidden_size=WIDTH,
            intermediate_size=4 * WIDTH,
            num_hidden_layers=clip_layers,
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

    def offsets(self, captions: list[str]) -> list[list[tuple[int, int]]]:
        """The characters that each T5 token stands for, none for padding."""
        return self.t5(captions, padding="max_length", max_length=T5_LENGTH, truncation=True, return_offsets_mapping=True)["offset_mapping"]


def encode(models: nn.ModuleDict, clip_ids: torch.Tensor, t5_ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Returns context [B, 40, 256] and pooled [B, 256]."""
    return models["t5"](t5_ids)[0], models["clip"](clip_ids).pooler_output


class Examples(torch.utils.data.Dataset):
    """Batches of captions as token ids, with the answers to `reading`'s questions. Batch `i` depends on `seed` and `i` alone, so that a training can go on."""

    def __init__(
        self, work: Path, tokens: Tokens, mix: str, seed: int, size: int = BATCH, near: float = NEAR_SHARE, short: float = SHORT_SHARE, held_out: float = 0.0
    ):
        self.tokens, self.mix, self.seed, self.size, self.near, self.short, self.held_out = tokens, MIXES[mix], seed, size, near, short, held_out
        self.strangers = load_strangers(work)

    def __getitem__(self, i: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """CLIP ids, T5 ids, answers about each T5 token [B, T, OF_THINGS] and about each caption [B, OF_POOLED]."""
        rng = random.Random(f"{self.seed}/{i}")
        scenes = [self._scene(rng) for _ in range(self.size)]
        captions, spans = zip(*(named_caption(scene, rng, self.strangers, self.near) for scene in scenes))
        clip_ids, t5_ids = self.tokens(list(captions))
        of_tokens = torch.tensor([reading.about_tokens(*labelled) for labelled in zip(scenes, spans, self.tokens.offsets(list(captions)))])
        # Otherwise as short as the captions allow, which costs less: T5, which attends to padding, learns to pass over any amount of it.
        length = T5_LENGTH if rng.random() < FULL_SHARE else int((t5_ids != 0).sum(1).max())
        return clip_ids, t5_ids[:, :length], of_tokens[:, :length], torch.tensor([reading.about_scene(scene) for scene in scenes])

    def _scene(self, rng: random.Random) -> Scene:
        scene = random_scene(rng, rng.random() < self.held_out, self.mix)
        return Scene((scene.things[0],), style=scene.style) if rng.random() < self.short else scene


@torch.no_grad()
def accuracy(models: nn.ModuleDict, reader: Reader, examples: Examples, batches: int = 20) -> dict[str, float]:
    """`Reader.shares`, averaged."""
    models.eval()
    parts = []
    for i in range(batches):
        clip_ids, t5_ids, of_tokens, of_scenes = examples[i]
        parts.append(reader.shares(*encode(models, clip_ids, t5_ids), of_tokens, of_scenes))
    models.train()
    return {name: sum(part[name] for part in parts) / batches for name in parts[0]}


def _table(shares: dict[str, float]) -> str:
    return ", ".join(f"{name} {100 * share:.1f}" for name, share in shares.items())


def _text_model(clip: CLIPTextModel) -> nn.Module:
    """The module with the layers: in some versions of transformers one further in."""
    return getattr(clip, "text_model", clip)


@torch.no_grad()
def normalise(models: nn.ModuleDict, examples: Examples) -> None:
    """Scales both features to unit variance through the weights of the final layer norms."""
    clip_ids, t5_ids, *_ = examples[0]
    t5_ids = F.pad(t5_ids, (0, T5_LENGTH - t5_ids.shape[1]))
    context, pooled = encode(models, clip_ids, t5_ids)
    models["t5"].encoder.final_layer_norm.weight /= context.std()
    final = _text_model(models["clip"]).final_layer_norm
    final.weight /= pooled.std()
    final.bias /= pooled.std()


def new_models(tokens: Tokens, clip_layers: int = LAYERS) -> nn.ModuleDict:
    return build(len(tokens.clip), tokens.clip.eos_token_id, len(tokens.t5), clip_layers)


def load(work: Path, tokens: Tokens) -> nn.ModuleDict:
    """The encoders that a finished training or `begin_from` wrote, frozen; the first easel-sketch's CLIP model had fewer layers."""
    state = load_checkpoint(work / "text_encoders.pt")["models"]
    models = new_models(tokens, clip_layers=len({name.split("layers.")[1].split(".")[0] for name in state if name.startswith("clip") and "layers." in name}))
    models.load_state_dict(state)
    return models.eval().requires_grad_(False)


@torch.no_grad()
def teach_words(tokenizer, embedding: nn.Embedding, scale: float, noun: nn.Linear, look: nn.Linear, looks: torch.Tensor) -> None:
    """Begins embeddings and two heads with the meanings and looks of single words."""
    with torch.enable_grad():
        embeddings, directions, towards = lexicon.learn(tokenizer, len(embedding.weight), WIDTH, looks, seed=7)
    embedding.weight.copy_(scale * embeddings)
    noun.weight[: len(NOUNS)] = 0.2 * torch.stack([directions[name] for name in NOUNS])
    look.weight.copy_(towards)


@torch.no_grad()
def begin_clip(clip: CLIPTextModel, reader: Reader, tokens: Tokens) -> None:
    """Words that the first layer at once brings to the end token."""
    teach_words(tokens.clip, clip.get_input_embeddings(), 0.05, reader.pooled["noun"], reader.pooled_look, reader.looks)
    attention = _text_model(clip).encoder.layers[0].self_attn
    for projection in (attention.v_proj, attention.out_proj):
        nn.init.eye_(projection.weight)


@torch.no_grad()
def begin_t5(t5: T5EncoderModel, reader: Reader, tokens: Tokens) -> None:
    """Words, and four heads that look where phrases need it."""
    teach_words(tokens.t5, t5.get_input_embeddings(), 1.0, reader.words["noun"], reader.word_look, reader.looks)
    # The layers would drown the words: their outputs are as large as the embeddings.
    for name, weight in t5.named_parameters():
        if name.endswith((".o.weight", ".wo.weight")):
            weight *= 0.1
    look_around(t5)


@torch.no_grad()
def look_around(t5: T5EncoderModel) -> None:
    """Begins T5's four heads with what a phrase needs: the word before, the word after, all before and all after.

    Left to themselves the biases stayed near zero, every word saw the mean of all, and no colour found its noun, nor a noun its place.
    """
    biases = t5.encoder.block[0].layer[0].SelfAttention.relative_attention_bias.weight  # [buckets, heads]: 0 is the word itself, then those before, from 16 those after
    after = len(biases) // 2
    biases[1, 0] += 4
    biases[after + 1, 1] += 4
    biases[after + 1 :, 2] -= 4
    biases[1:after, 3] -= 4


def optimizers(modules: nn.ModuleDict) -> list[torch.optim.Optimizer]:
    """Muon for the matrices of T5's layers, which learn slowly otherwise; AdamW for all else. The key `times` of a group multiplies its rate."""
    matrices, biases, rest = [], [], []
    for name, parameter in modules.named_parameters():
        if "relative_attention_bias" in name:
            biases.append(parameter)
        elif ".t5.encoder.block." in name and parameter.ndim == 2:
            matrices.append(parameter)
        else:
            rest.append(parameter)
    groups = [{"params": rest, "times": 1}, {"params": biases, "times": BIAS_RATE, "weight_decay": 0.0}]
    return [torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.98), weight_decay=0.01, fused=True), Muon(matrices, lr=RATE)]


class Known:
    """What encoders told before their words were widened: the features of captions about familiar things must stay, since a transformer draws from them."""

    def __init__(self, models: nn.ModuleDict):
        self.models = copy.deepcopy(models).to(DEVICE).eval().requires_grad_(False)

    def loss(self, context: torch.Tensor, pooled: torch.Tensor, ids: tuple[torch.Tensor, torch.Tensor], of_tokens: torch.Tensor, of_scenes: torch.Tensor) -> torch.Tensor:
        """Mean squares of how far both features have gone, over captions that name none but the first COMMON nouns and no style."""
        nouns, styles = of_tokens[..., 0], of_scenes[:, list(OF_POOLED).index("style")]
        familiar = ((nouns < COMMON) | (nouns == NO_NOUN)).all(1) & (styles == len(STYLES))
        if not familiar.any():
            return context.new_zeros(())
        known = encode(self.models, *(part[familiar] for part in ids))
        return sum(F.mse_loss(now[familiar].float(), before.float()) for now, before in zip((context, pooled), known))


def train(work: Path, mix: str, steps: int, size: int, workers: int, widen: bool) -> None:
    torch.manual_seed(4)
    tokens, checkpoint = Tokens(work), work / "text_encoders-training.pt"
    state = load_checkpoint(checkpoint) if checkpoint.exists() else None
    if state and state.get("finished"):
        print(f"{work / 'text_encoders.pt'} is finished; remove {checkpoint.name} to train anew.")
        return
    models = load(work, tokens).train().requires_grad_(True) if widen else new_models(tokens)
    reader, known = Reader(WIDTH, appearance.load(work)), Known(models) if widen else None
    if state:
        models.load_state_dict(state["models"])
        reader.load_state_dict(state["reader"])
    elif widen:
        reader.ask_nothing()
    else:
        begin_t5(models["t5"], reader, tokens)
        begin_clip(models["clip"], reader, tokens)
    taught = nn.ModuleDict({"models": models, "reader": reader}).to(DEVICE)
    made = optimizers(taught)
    for optimizer, stored in zip(made, (state or {}).get("optimizers", [])):
        optimizer.load_state_dict(stored)
    start = state["step"] if state else 0

    def save(step: int, finished: bool = False) -> None:
        states = {name: module.state_dict() for name, module in taught.items()}
        save_checkpoint(checkpoint, **states, optimizers=[optimizer.state_dict() for optimizer in made], step=step, finished=finished)

    examples = Examples(work, tokens, mix, seed=6, size=size)
    step = teach(taught, made, known, examples, start, steps, workers, save)
    save(step)
    end_of_run(step, steps)
    taught.cpu()
    report(work, mix, models, reader, tokens)
    if not widen:  # whose features must stay as they are
        normalise(models, Examples(work, tokens, mix, seed=5, size=1000))
    save_checkpoint(work / "text_encoders.pt", models=models.state_dict())
    save(step, finished=True)


def teach(
    taught: nn.ModuleDict,
    made: list[torch.optim.Optimizer],
    known: Known | None,
    examples: Examples,
    start: int,
    steps: int,
    workers: int,
    save: Callable[[int], None],
) -> int:
    """Takes steps from `start` until `steps` are done or time is up; returns how many are done."""
    models, reader = taught["models"], taught["reader"]
    batches = torch.utils.data.DataLoader(examples, batch_size=None, sampler=range(start, steps), num_workers=workers)
    step, started = start, time.time()
    for batch in batches:
        for group in [group for optimizer in made for group in optimizer.param_groups]:
            group["lr"] = group.get("times", 1) * learning_rate(step, steps, RATE, decay_from=0.4)
        clip_ids, t5_ids, of_tokens, of_scenes = (part.to(DEVICE) for part in batch)
        with mixed_precision():
            context, pooled = encode(models, clip_ids, t5_ids)
            loss = reader.context_loss(context, of_tokens, of_scenes) + reader.pooled_loss(pooled, of_scenes)
            if known:
                loss = loss + KNOWN_WEIGHT * known.loss(context, pooled, (clip_ids, t5_ids), of_tokens, of_scenes)
        loss.backward()
        nn.utils.clip_grad_norm_(taught.parameters(), 1.0)
        for optimizer in made:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        step += 1
        if step % 50 == 0:
            print(f"step {step} loss {loss:.4f} {(time.time() - started) / (step - start):.3f} s/step", flush=True)
        if step % 100 == 0:
            save(step)
        if is_time_up():
            break
    return step


def hand_written() -> tuple[list[str], list[dict[str, int]]]:
    """The prompts of reading-prompts.txt, and for each the answers that it has a clear one for."""
    prompts, wanted = [], []
    for line in (Path(__file__).parent.parent / "reading-prompts.txt").read_text().splitlines():
        if line.startswith("#"):
            continue
        prompt, noun, colour, place = (part.strip() for part in line.split("|"))
        prompts.append(prompt)
        wanted.append({"noun": reading.NOUN_INDEX[noun]})
        if colour != "-":
            wanted[-1]["colour"] = COLOURS.index(colour)
        if place != "-":
            wanted[-1]["place"] = BACKGROUNDS.index(place)
    return prompts, wanted


@torch.no_grad()
def hand_written_accuracy(models: nn.ModuleDict, reader: Reader, tokens: Tokens) -> dict[str, float]:
    """Share of right answers on prompts that no template wrote."""
    prompts, wanted = hand_written()
    models.eval()
    clip_ids, t5_ids = tokens(prompts)
    found = reader.answer(encode(models, clip_ids, t5_ids)[0], [int(length) for length in (t5_ids > 1).sum(1)])
    models.train()
    shares = {}
    for question in ("noun", "colour", "place"):
        rows = [i for i, answer in enumerate(wanted) if question in answer]
        shares[question] = sum(found[i][question] == wanted[i][question] for i in rows) / len(rows)
    return shares


def report(work: Path, mix: str, models: nn.ModuleDict, reader: Reader, tokens: Tokens) -> None:
    """Prints the accuracies on captions that training has not seen, in per cent."""
    ordinary = Examples(work, tokens, mix, seed=99, size=100, near=0.0, short=0.0, held_out=0.5)
    near = Examples(work, tokens, mix, seed=98, size=100, near=1.0, short=0.0)
    print("ordinary captions, half of held-out combinations:", _table(accuracy(models, reader, ordinary)), flush=True)
    print("things called by a word near them:", _table({"noun": accuracy(models, reader, near)["noun"]}), flush=True)
    print("prompts written by hand:", _table(hand_written_accuracy(models, reader, tokens)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of art.zip and the tokenizers; receives text_encoders.pt")
    parser.add_argument("--mix", choices=MIXES, default="everything", help="of the scenes that captions describe")
    parser.add_argument("--steps", type=int, default=12_000, help="length of the whole run")
    parser.add_argument("--widen", action="store_true", help="WORK/text_encoders.pt learn more words, for a transformer that draws from them")
    parser.add_argument("--batch", type=int, default=BATCH)
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of a CPU")
    parser.add_argument("--workers", type=int, default=0, help="processes that write captions")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    train(arguments.work, arguments.mix, arguments.steps, arguments.batch, arguments.workers, arguments.widen)
