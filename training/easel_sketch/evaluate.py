"""Draws first-seed pictures with the stock FluxPipeline and lets the judge score them.

    python -m easel_sketch.evaluate --work WORK --model ../models/easel-sketch --count 200

Prompts are fresh captions of single-object scenes: half of noun × colour × place combinations that training never saw. The nine
must-have nouns are scored apart, with plain prompts ("a cat"). Also draws the sample prompts as a sheet.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline

from . import judge as judging
from .cache import thumbnail
from .captions import caption
from .common import save_sheet
from .scenes import Scene, Thing
from .vocabulary import NOUNS


class Painter:
    """The exported model, through diffusers alone; pictures as uint8 arrays."""

    def __init__(self, folder: Path):
        self.pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
        self.pipeline.set_progress_bar_config(disable=True)
        self.defaults = json.loads((folder / "easel.json").read_text())

    def paint(self, prompts: list[str], seed: int, steps: int | None = None, guidance: float | None = None) -> list[np.ndarray]:
        pictures = []
        for start in range(0, len(prompts), 16):
            part = prompts[start : start + 16]
            output = self.pipeline(
                prompt=part,
                width=self.defaults["nativeSize"],
                height=self.defaults["nativeSize"],
                num_inference_steps=steps or self.defaults["steps"],
                true_cfg_scale=self.defaults["trueCfgScale"] if guidance is None else guidance,
                negative_prompt=[""] * len(part),
                guidance_scale=0.0,
                max_sequence_length=self.defaults["maxSequenceLength"],
                generator=[torch.Generator().manual_seed(seed + start + i) for i in range(len(part))],
                output_type="np",
            ).images
            pictures += [(picture * 255).round().astype(np.uint8) for picture in output]
        return pictures


def must_have_prompts() -> tuple[list[str], list[Scene]]:
    """Every must-have noun in each of its first few colours and alone, on nothing and in a meadow."""
    prompts, scenes = [], []
    for noun in (noun for noun in NOUNS.values() if noun.must):
        for colour in (None, *noun.colours[:1], *noun.colours[4:6]):
            for place, phrase in (("unnamed", ""), ("meadow", " in a meadow")):
                prompts.append(f"a {colour + ' ' if colour else ''}{noun.name}{phrase}")
                scenes.append(Scene((Thing(noun.name, colour),), place))
    return prompts, scenes


def evaluate(options: argparse.Namespace) -> None:
    painter = Painter(options.model)
    judge, own_accuracy = judging.load(options.work)
    print("judge's own accuracy", own_accuracy)
    settings = {"steps": options.steps, "guidance": options.guidance}

    started = time.time()
    for held_out, name in ((1.0, "held-out combinations"), (0.0, "trained combinations")):
        scenes = judging.single_scenes(31 + int(held_out), options.count // 2, held_out)
        rng = random.Random(33)
        pictures = painter.paint([caption(scene, rng) for scene in scenes], seed=0, **settings)
        print(name, judging.score(judge, np.stack([thumbnail(p) for p in pictures]), scenes), flush=True)
        save_sheet(options.work / f"sheets/evaluate-{name.split()[0]}.png", [thumbnail(p) for p in pictures], columns=20)

    prompts, scenes = must_have_prompts()
    pictures = painter.paint(prompts, seed=0, **settings)
    right = judging.correct(judge, np.stack([thumbnail(p) for p in pictures]), scenes)
    for noun in dict.fromkeys(scene.things[0].noun for scene in scenes):
        rows = [i for i, scene in enumerate(scenes) if scene.things[0].noun == noun]
        print(f"  {noun}: noun {right[rows, 0].float().mean():.2f}, colour {right[rows, 1].float().mean():.2f}")
    print("must-have nouns", judging.score(judge, np.stack([thumbnail(p) for p in pictures]), scenes))

    samples = (Path(__file__).parent.parent / "sample-prompts.txt").read_text().strip().splitlines()
    save_sheet(options.work / "sheets/samples.png", painter.paint(samples, seed=0, **settings), columns=4)
    print(f"{time.time() - started:.0f} s")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--steps", type=int, default=None, help="instead of easel.json's")
    parser.add_argument("--guidance", type=float, default=None, help="instead of easel.json's")
    torch.set_num_threads(2)
    evaluate(parser.parse_args())
