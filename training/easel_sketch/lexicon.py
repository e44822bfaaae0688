"""What single words mean: gives both encoders' token embeddings a start, so that synonyms are alike before any sentence is read.

Every word and phrase of the vocabulary stands for one concept (a noun, a colour, a number, a place, …). The mean of its tokens' embeddings
learns to name the concept: seconds instead of the hours that a transformer would need to see every word often enough.
"""

import torch
import torch.nn.functional as F
from torch import nn

from .captions import BESIDE, NUMBERS, POSES, RELATION_WORDS, SAME_COLOUR, SIZE_WORDS
from .english import is_countable, plural
from .vocabulary import COLOURS, NOUNS, PLACES, STYLES, TIMES

EPOCHS = 300
RATE = 0.01


def phrases() -> list[tuple[str, str]]:
    """(phrase, concept), nouns also in the plural."""
    pairs = [(word, noun.name) for noun in NOUNS.values() for word in (*noun.words, *noun.near)]
    pairs += [(plural(word), concept) for word, concept in pairs if is_countable(word)]
    pairs += [(word, f"colour {colour}") for colour in COLOURS for word in {colour, *SAME_COLOUR.get(colour, [])}]
    pairs += [(word, f"size {size}") for size, words in SIZE_WORDS.items() for word in set(words)]
    pairs += [(word, f"number {number}") for number, words in NUMBERS.items() for word in set(words)]
    pairs += [(word, f"place {place.name}") for place in PLACES.values() for word in place.words]
    pairs += [(word, f"time {time}") for time, words in TIMES.items() for word in words]
    pairs += [(word, f"style {style}") for style, words in STYLES.items() for word in words]
    pairs += [(word, f"pose {pose}") for pose, words in POSES.items() for word in set(words)]
    pairs += [(word, f"relation {name} {i}") for name, ways in RELATION_WORDS.items() for i, words in enumerate(ways) for word in set(words)]
    pairs += [(word, f"relation {name}") for name, words in BESIDE.items() for word in set(words)]
    return sorted(set(pairs))


def learn(
    tokenizer, vocabulary_size: int, width: int, looks: torch.Tensor, seed: int
) -> tuple[torch.Tensor, dict[str, torch.Tensor], torch.Tensor]:
    """Returns embeddings [vocabulary, width] of unit variance, a direction [width] of unit length for every concept, and a projection
    [code, width] from these directions towards `looks`, the codes of the nouns' appearance [nouns, code].

    What looks alike lies close together: half of a noun's direction is its look, the other half is chance and tells it from its likes.
    """
    pairs = phrases()
    names = sorted({concept for _, concept in pairs})
    index = {name: i for i, name in enumerate(names)}
    ids = tokenizer([phrase for phrase, _ in pairs], add_special_tokens=False).input_ids
    flat = torch.tensor([token for phrase in ids for token in phrase])
    offsets = torch.tensor([0, *(len(phrase) for phrase in ids[:-1])]).cumsum(0)
    labels = torch.tensor([index[concept] for _, concept in pairs])
    generator = torch.Generator().manual_seed(seed)
    embeddings = nn.Parameter(0.02 * torch.randn(vocabulary_size, width, generator=generator))
    towards = torch.linalg.qr(torch.randn(width, looks.shape[1], generator=generator))[0].T
    of_nouns = F.normalize(looks @ towards, dim=-1) + F.normalize(torch.randn(len(NOUNS), width, generator=generator), dim=-1)
    given = F.normalize(of_nouns, dim=-1)
    rows = torch.tensor([index[name] for name in NOUNS])
    concepts = nn.Parameter(torch.randn(len(names), width, generator=generator) / width**0.5)
    optimizer = torch.optim.AdamW([embeddings, concepts], lr=RATE, weight_decay=0.01)
    for epoch in range(EPOCHS):
        for group in optimizer.param_groups:
            group["lr"] = RATE * (1 - epoch / EPOCHS)
        logits = F.embedding_bag(flat, embeddings, offsets, mode="mean") @ concepts.index_copy(0, rows, given).T
        loss = F.cross_entropy(logits, labels, label_smoothing=0.02)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    right = (logits.argmax(-1) == labels).float().mean().item()
    print(f"{len(pairs)} phrases of {len(names)} concepts: {100 * right:.1f} % named by their tokens alone", flush=True)
    with torch.no_grad():
        directions = F.normalize(concepts.index_copy(0, rows, given), dim=-1)
        return embeddings / embeddings.std(), {name: directions[i] for name, i in index.items()}, towards
