"""What can be read in a caption: the labels, and heads that answer from what the text encoders give.

From T5's context each word tells what it is the name of, and if it names a thing, all that is known of that thing; three queries attend over the
context for place, time and style. CLIP's pooled vector tells what the picture as a whole is like.
"""

import torch
import torch.nn.functional as F
from torch import nn

from . import appearance
from .captions import Span
from .scenes import LARGEST_COUNT, SIZES, Scene, Thing
from .vocabulary import BACKGROUNDS, COLOURS, NOUNS, STYLES, TIMES

NOUN_INDEX = {name: i for i, name in enumerate(NOUNS)}
NO_NOUN = len(NOUNS)  # the answer for a word that names nothing
UNASKED = -100  # a label that counts for nothing
ROLES = ["alone", "left", "right", "above", "below", "middle"]
# Between how many answers each question chooses. A natural look counts as its own colour.
OF_THINGS = {"noun": len(NOUNS) + 1, "colour": len(COLOURS) + 1, "count": LARGEST_COUNT, "size": len(SIZES) + 1, "role": len(ROLES), "pose": 2}
OF_SCENES = {"place": len(BACKGROUNDS), "time": len(TIMES) + 1, "style": len(STYLES) + 1}
OF_POOLED = {**OF_SCENES, **{name: size for name, size in OF_THINGS.items() if name != "pose"}}
LOOK_WEIGHT = 0.5  # of the codes among the losses


def role(scene: Scene, index: int) -> str:
    """Where the thing stands among the others."""
    match len(scene.things), scene.relation:
        case 1, _:
            return "alone"
        case 2, "above" | "below":
            return ("above", "below")[index if scene.relation == "above" else 1 - index]
        case 2, "right":
            return ("right", "left")[index]
        case 2, _:
            return ("left", "right")[index]
        case _:
            return ("left", "middle", "right")[index]


def about_thing(scene: Scene, index: int) -> list[int]:
    """Answers to OF_THINGS."""
    thing: Thing = scene.things[index]
    return [
        NOUN_INDEX[thing.noun],
        COLOURS.index(thing.colour) if thing.colour else len(COLOURS),
        thing.count - 1,
        SIZES.index(thing.size) if thing.size else len(SIZES),
        ROLES.index(role(scene, index)),
        int(thing.pose is not None),
    ]


def about_scene(scene: Scene) -> list[int]:
    """Answers to OF_POOLED: the scene, and what is first in it from the left or from above."""
    index = 1 if scene.relation in ("right", "below") else 0
    return [
        BACKGROUNDS.index(scene.place),
        list(TIMES).index(scene.time) if scene.time else len(TIMES),
        list(STYLES).index(scene.style) if scene.style else len(STYLES),
        *about_thing(scene, index)[:-1],
    ]


def about_nothing() -> list[int]:
    """For an empty caption: nothing is asked about the scene."""
    return [UNASKED] * len(OF_POOLED)


def about_tokens(scene: Scene, spans: list[Span], offsets: list[Span]) -> list[list[int]]:
    """Answers to OF_THINGS for each token of a caption, given the characters that it stands for (none for padding)."""
    labels = []
    for start, end in offsets:
        named = [i for i, (first, last) in enumerate(spans) if start < last and end > first]
        silent = [NO_NOUN if end > start else UNASKED, *[UNASKED] * (len(OF_THINGS) - 1)]
        labels.append(about_thing(scene, named[0]) if named else silent)
    return labels


class Reader(nn.Module):
    """Heads on both features; `width` is that of the context and of the pooled vector."""

    def __init__(self, width: int, looks: torch.Tensor):
        super().__init__()
        self.register_buffer("looks", looks)
        self.words = nn.ModuleDict({name: nn.Linear(width, size) for name, size in OF_THINGS.items()})
        self.queries = nn.Parameter(torch.randn(len(OF_SCENES), width) / width**0.5)
        self.scenes = nn.ModuleDict({name: nn.Linear(width, size) for name, size in OF_SCENES.items()})
        self.pooled = nn.ModuleDict({name: nn.Linear(width, size) for name, size in OF_POOLED.items()})
        self.word_look, self.pooled_look = nn.Linear(width, appearance.LENGTH), nn.Linear(width, appearance.LENGTH)

    @torch.no_grad()
    def ask_nothing(self) -> None:
        """Zeroes the heads: beside encoders that were not taught with them, their first guesses would only do harm."""
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.weight)

    def read_words(self, context: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits [B, T, answers] for each of OF_THINGS."""
        return {name: head(context) for name, head in self.words.items()}

    def read_context(self, context: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits [B, answers] for each of OF_SCENES."""
        weights = torch.einsum("qd,btd->bqt", self.queries, context).softmax(dim=-1)
        read = torch.einsum("bqt,btd->bqd", weights, context)
        return {name: head(read[:, i]) for i, (name, head) in enumerate(self.scenes.items())}

    def read_pooled(self, pooled: torch.Tensor) -> dict[str, torch.Tensor]:
        """Logits [B, answers] for each of OF_POOLED."""
        return {name: head(pooled) for name, head in self.pooled.items()}

    def context_loss(self, context: torch.Tensor, of_tokens: torch.Tensor, of_scenes: torch.Tensor) -> torch.Tensor:
        """The sum over all questions about words and scenes; labels are [B, T, OF_THINGS] and [B, OF_POOLED]."""
        total = context.new_zeros(())
        for i, logits in enumerate(self.read_words(context).values()):
            total = total + F.cross_entropy(logits.flatten(0, 1).float(), of_tokens[..., i].flatten(), ignore_index=UNASKED)
        for i, logits in enumerate(self.read_context(context).values()):
            total = total + F.cross_entropy(logits.float(), of_scenes[:, i], ignore_index=UNASKED)
        nouns = of_tokens[..., 0]
        names = (nouns >= 0) & (nouns < NO_NOUN)
        return total + LOOK_WEIGHT * F.mse_loss(self.word_look(context[names]).float(), self.looks[nouns[names]])

    def pooled_loss(self, pooled: torch.Tensor, of_scenes: torch.Tensor) -> torch.Tensor:
        """The same for the pooled vector."""
        total = pooled.new_zeros(())
        for i, logits in enumerate(self.read_pooled(pooled).values()):
            total = total + F.cross_entropy(logits.float(), of_scenes[:, i], ignore_index=UNASKED)
        first = of_scenes[:, list(OF_POOLED).index("noun")]
        asked = first != UNASKED
        return total + LOOK_WEIGHT * F.mse_loss(self.pooled_look(pooled[asked]).float(), self.looks[first[asked]])

    @torch.no_grad()
    def shares(self, context: torch.Tensor, pooled: torch.Tensor, of_tokens: torch.Tensor, of_scenes: torch.Tensor) -> dict[str, float]:
        """Share of right answers; of words that name things, and from both features; `look` is the share of the codes' variance that is told."""
        shares = {}
        nouns = of_tokens[..., 0]
        names = (nouns >= 0) & (nouns < NO_NOUN)
        for i, (name, logits) in enumerate(self.read_words(context).items()):
            shares[name] = _share(logits[names], of_tokens[..., i][names])
        shares["look"] = 1 - float((self.word_look(context[names]) - self.looks[nouns[names]]).square().mean())
        for i, (name, logits) in enumerate(self.read_context(context).items()):
            shares[name] = _share(logits, of_scenes[:, i])
        for i, (name, logits) in enumerate(self.read_pooled(pooled).items()):
            shares[f"pooled {name}"] = _share(logits, of_scenes[:, i])
        first = of_scenes[:, list(OF_POOLED).index("noun")]
        shares["pooled look"] = 1 - float((self.pooled_look(pooled) - self.looks[first]).square().mean())
        return shares

    @torch.no_grad()
    def answer(self, context: torch.Tensor, lengths: list[int]) -> list[dict[str, int]]:
        """What one reads in captions that nobody labelled: the noun of the surest word, its colour, and the place."""
        words, places = self.read_words(context), self.read_context(context)["place"].argmax(-1)
        found = []
        for i, length in enumerate(lengths):
            chances = words["noun"][i, :length].softmax(-1)[:, :NO_NOUN]
            word = int(chances.max(-1).values.argmax())
            found.append({"noun": int(chances[word].argmax()), "colour": int(words["colour"][i, word].argmax()), "place": int(places[i])})
        return found


def _share(logits: torch.Tensor, labels: torch.Tensor) -> float:
    return float((logits.argmax(-1) == labels).float().mean())
