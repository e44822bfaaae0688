"""Draws prompts with the stock FluxPipeline of diffusers, one picture each, seed 0.

    python -m easel_sketch.paint ../models/easel-sketch --prompts evaluation/sketch-2.json --to FOLDER

Writes 0000.png and so on, for `easel_sketch.evaluate`; pictures that are there already are kept. The model's easel.json gives the defaults.
"""

import argparse
import json
from pathlib import Path

import numpy as np
import torch
from diffusers import FluxPipeline
from PIL import Image

from .common import DEVICE


class Painter:
    """An exported model, through diffusers alone; pictures as uint8 arrays."""

    def __init__(self, folder: Path):
        self.pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32).to(DEVICE)
        self.pipeline.set_progress_bar_config(disable=True)
        self.defaults = json.loads((folder / "easel.json").read_text())

    def paint(self, prompts: list[str], seed: int = 0, steps: int | None = None, guidance: float | None = None) -> list[np.ndarray]:
        """Each from its own generator of the same seed; `guidance` replaces the default of whichever guidance the model has."""
        side, distilled = self.defaults["nativeSize"], self.defaults["guidanceScale"] > 0
        scale = guidance if guidance is not None else self.defaults["guidanceScale" if distilled else "trueCfgScale"]
        output = self.pipeline(
            prompt=prompts,
            width=side,
            height=side,
            num_inference_steps=steps or self.defaults["steps"],
            guidance_scale=scale if distilled else 0.0,
            true_cfg_scale=1.0 if distilled else scale,
            negative_prompt=None if distilled else [""] * len(prompts),
            max_sequence_length=self.defaults["maxSequenceLength"],
            generator=[torch.Generator().manual_seed(seed) for _ in prompts],
            output_type="np",
        ).images
        return [(picture * 255).round().astype(np.uint8) for picture in output]


def prompts_in(file: Path) -> list[str]:
    """A list of the evaluation (JSON), or one prompt a line."""
    text = file.read_text()
    return [entry["prompt"] for entry in json.loads(text)["prompts"]] if file.suffix == ".json" else text.strip().splitlines()


def draw(options: argparse.Namespace) -> None:
    painter, prompts = Painter(options.model), prompts_in(options.prompts)
    options.to.mkdir(parents=True, exist_ok=True)
    missing = [i for i in range(len(prompts)) if not (options.to / f"{i:04d}.png").exists()]
    for start in range(0, len(missing), options.batch):
        part = missing[start : start + options.batch]
        for i, picture in zip(part, painter.paint([prompts[i] for i in part], steps=options.steps, guidance=options.guidance)):
            Image.fromarray(picture).save(options.to / f"{i:04d}.png")
        print(f"{start + len(part)} of {len(missing)}", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--steps", type=int, help="instead of easel.json's")
    parser.add_argument("--guidance", type=float, help="instead of easel.json's")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    draw(arguments)
