"""Makes both tokenizers from our own captions and common English words.

    python -m easel_sketch.tokenizers --work WORK

`tokenizer/` is a CLIP tokenizer (lower-casing byte-level BPE), `tokenizer_2/` a T5 one (SentencePiece unigram).
"""

import argparse
import json
import random
import string
from pathlib import Path

import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as spm
from tokenizers import Tokenizer, models, pre_tokenizers, trainers
from transformers import CLIPTokenizer, T5TokenizerFast

from .captions import caption, load_strangers
from .scenes import random_scene

CLIP_LENGTH, T5_LENGTH = 77, 40
CLIP_VOCABULARY, T5_VOCABULARY = 8192, 8192


def corpus(work: Path, captions: int = 60_000) -> list[str]:
    """Captions, and every common word four times, so that strangers split into sane pieces."""
    rng = random.Random(11)
    strangers = load_strangers(work)
    lines = [caption(random_scene(rng), rng, strangers, near=0.3) for _ in range(captions)]
    words = strangers * 4
    rng.shuffle(words)
    words = [word.capitalize() if rng.random() < 0.1 else word for word in words]
    lines += [" ".join(words[i : i + 8]) for i in range(0, len(words), 8)]
    digits = [" ".join(str(rng.randrange(10 ** rng.randint(1, 4))) for _ in range(8)) for _ in range(500)]
    return lines + digits


def make_clip(lines: list[str]) -> CLIPTokenizer:
    template = CLIPTokenizer().backend_tokenizer
    trained = Tokenizer(models.BPE(end_of_word_suffix="</w>"))
    trained.normalizer = template.normalizer
    trained.pre_tokenizer = template.pre_tokenizer
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    specials = ["<|startoftext|>", "<|endoftext|>"]
    trainer = trainers.BpeTrainer(
        vocab_size=CLIP_VOCABULARY - 300, initial_alphabet=alphabet, end_of_word_suffix="</w>", show_progress=False
    )
    trained.train_from_iterator(lines, trainer)
    merges = [tuple(merge) for merge in json.loads(trained.to_str())["model"]["merges"]]
    # The order of OpenAI's file: bytes, bytes that end a word, merges, specials.
    tokens = alphabet + [byte + "</w>" for byte in alphabet] + ["".join(merge) for merge in merges] + specials
    vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=CLIP_LENGTH)


def make_t5(lines: list[str], folder: Path) -> T5TokenizerFast:
    folder.mkdir(parents=True, exist_ok=True)
    text = folder / "corpus.txt"
    text.write_text("\n".join(lines))
    sentencepiece.SentencePieceTrainer.train(
        input=str(text),
        model_prefix=str(folder / "spiece"),
        vocab_size=T5_VOCABULARY,
        model_type="unigram",
        normalization_rule_name="nmt_nfkc_cf",  # the case of a letter says nothing about a picture
        character_coverage=1.0,
        pad_id=0,
        eos_id=1,
        unk_id=2,
        bos_id=-1,
        required_chars=string.printable.strip() + "àáâäãåçèéêëìíîïñòóôöõøùúûüßœæ’‘“”–—",
        num_threads=2,
        minloglevel=1,
    )
    text.unlink()
    (folder / "spiece.vocab").unlink()
    model = spm.ModelProto()
    model.ParseFromString((folder / "spiece.model").read_bytes())
    pieces = [(piece.piece, piece.score) for piece in model.pieces]
    charsmap = model.normalizer_spec.precompiled_charsmap
    return T5TokenizerFast(vocab=pieces, extra_ids=0, _spm_precompiled_charsmap=charsmap, model_max_length=T5_LENGTH)


def make(work: Path) -> None:
    lines = corpus(work)
    clip, t5 = make_clip(lines), make_t5(lines, work / "tokenizer_2")
    clip.save_pretrained(work / "tokenizer")
    t5.save_pretrained(work / "tokenizer_2")


def load(work: Path) -> tuple[CLIPTokenizer, T5TokenizerFast]:
    return CLIPTokenizer.from_pretrained(work / "tokenizer"), T5TokenizerFast.from_pretrained(work / "tokenizer_2")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True, help="folder of art.zip; receives tokenizer/ and tokenizer_2/")
    make(parser.parse_args().work)
