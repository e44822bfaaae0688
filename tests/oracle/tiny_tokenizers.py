"""Tiny CLIP and T5 tokenizers, trained on a handful of sentences, saved as transformers saves the real ones."""

import tempfile
from collections import Counter
from pathlib import Path

import sentencepiece
from transformers import CLIPTokenizer, T5Tokenizer

CORPUS = """
A white cat resting in Rome. A black dog running in the park under a blue sky.
An illustration of a red car on the road between green trees and yellow houses.
The sun sets over the sea, and a small boat sails home. It's a sunny day, isn't it?
A slice of pizza with cheese, tomatoes and basil on a wooden table, flat design.
Pink flowers in a vase; a purple butterfly (very small) sits on the window.
We're drawing 12 pictures, 3 at a time, at 1024x768 pixels! They'll be finished at 10:45.
I've painted the mountain and he'd photographed the river. I'm happy, you're tired, that's all.
A watercolor painting of a castle on a hill, dramatic lighting, highly detailed, 8k.
Un gatto bianco riposa a Roma. Ein weißer Hund läuft über die grüne Straße. Ça va très bien, señor.
Кошка сидит на окне. Собака бежит домой. Η γάτα κοιμάται στον ήλιο.
白い猫がローマで休んでいます。 一只白色的猫在罗马休息。 고양이가 로마에서 쉬고 있다.
قطة بيضاء تستريح في روما. חתול לבן נח ברומא. แมวสีขาวพักผ่อนในโรม बिल्ली रोम में आराम कर रही है
😀 😺 🐶 🏠 🌳 🌸 🍕 ⛵ ☀️ 👩‍🚀 🏳️‍🌈 café naïve résumé coöperate Ångström ﬁne ① ½ ™ …
""".strip().splitlines()


def byte_alphabet() -> list[str]:
    """The 256 characters that stand for bytes, in the order of OpenAI's vocabulary."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [b for b in range(256) if b not in printable]
    return [chr(b) for b in printable] + [chr(256 + i) for i in range(len(others))]


def clip_merges(count: int) -> list[tuple[str, str]]:
    """Plain byte-pair encoding. Not tokenizers' BpeTrainer: it breaks ties by the order of a hash map."""
    backend = CLIPTokenizer().backend_tokenizer
    words = Counter(
        word for line in CORPUS
        for word, _ in backend.pre_tokenizer.pre_tokenize_str(backend.normalizer.normalize_str(line))
    )
    spellings = {word: [*word[:-1], word[-1] + "</w>"] for word in words}
    merges = []
    while len(merges) < count:
        pairs = Counter()
        for word, spelling in spellings.items():
            for pair in zip(spelling, spelling[1:]):
                pairs[pair] += words[word]
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        for spelling in spellings.values():
            i = 0
            while i + 1 < len(spelling):
                if (spelling[i], spelling[i + 1]) == best:
                    spelling[i : i + 2] = ["".join(best)]
                i += 1
    return merges


def train_clip(folder: Path, *, merges: int, model_max_length: int, special_first: bool, pad_token: str,
               forgotten_bytes: bytes = b"", keep_tokenizer_json: bool) -> None:
    """`special_first` moves the two special tokens from the end of the vocabulary (as OpenAI has it) to its start.
    The tokens of `forgotten_bytes` are left out, so that some texts meet the unknown token."""
    merge_list = clip_merges(merges)
    special = ["<|startoftext|>", "<|endoftext|>"]
    alphabet = byte_alphabet()
    by_byte = {byte: char for char, byte in zip(alphabet, byte_order())}
    forgotten = {by_byte[b] for b in forgotten_bytes}
    merge_list = [m for m in merge_list if not forgotten & set("".join(m).replace("</w>", ""))]
    alphabet = [c for c in alphabet if c not in forgotten]
    words = alphabet + [c + "</w>" for c in alphabet] + ["".join(m) for m in merge_list]
    words = special + words if special_first else words + special
    vocab = {word: i for i, word in enumerate(dict.fromkeys(words))}
    tokenizer = CLIPTokenizer(vocab=vocab, merges=merge_list, pad_token=pad_token, model_max_length=model_max_length)
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.model.save(str(folder))  # vocab.json and merges.txt
    if not keep_tokenizer_json:
        (folder / "tokenizer.json").unlink()


def byte_order() -> list[int]:
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    return printable + [b for b in range(256) if b not in printable]


# A normaliser of our own: nothing like nmt_nfkc, so that a reader which assumes nmt_nfkc is found out.
CUSTOM_RULES = {"ﬁ": "fi", "①": "(1)", "A": "a", "é": "e", "é": "e", "…": "...", "ß": "ss", "\t": " ", "​": ""}


def train_t5(folder: Path, *, vocab_size: int, rule: str, model_max_length: int, extra_ids: int) -> None:
    """`rule` is sentencepiece's name of a normalisation ("nmt_nfkc" is T5's own), or "custom"."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        corpus = Path(scratch, "corpus.txt")
        corpus.write_text("\n".join(CORPUS), encoding="utf-8")
        options = {"normalization_rule_name": rule}
        if rule == "custom":
            rules = Path(scratch, "rules.tsv")
            lines = [
                " ".join(f"{ord(c):x}" for c in source) + "\t" + " ".join(f"{ord(c):x}" for c in target)
                for source, target in CUSTOM_RULES.items()
            ]
            rules.write_text("\n".join(lines) + "\n", encoding="utf-8")
            options = {"normalization_rule_tsv": str(rules)}
        sentencepiece.SentencePieceTrainer.train(
            input=str(corpus), model_prefix=str(Path(scratch, "spiece")), model_type="unigram", vocab_size=vocab_size,
            pad_id=0, eos_id=1, unk_id=2, bos_id=-1, pad_piece="<pad>", hard_vocab_limit=False,
            character_coverage=0.995, num_threads=1, minloglevel=2, **options,
        )
        tokenizer = T5Tokenizer.from_pretrained(
            scratch, vocab_file=str(Path(scratch, "spiece.model")), extra_ids=extra_ids,
            model_max_length=model_max_length,
        )
        tokenizer.save_pretrained(folder)
        (folder / "spiece.model").unlink(missing_ok=True)
