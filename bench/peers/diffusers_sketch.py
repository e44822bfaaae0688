"""Draws with diffusers what the benchmark draws with Easel: one picture per line on stdin, its seconds on stdout."""

import json
import sys
import time
from pathlib import Path

import torch
from diffusers import FluxPipeline

folder, prompt = Path(sys.argv[1]), sys.argv[2]
defaults = json.loads((folder / "easel.json").read_text())
pipeline = FluxPipeline.from_pretrained(folder, torch_dtype=torch.float32)
pipeline.set_progress_bar_config(disable=True)

for _ in sys.stdin:
    start = time.perf_counter()
    pipeline(
        prompt,
        width=defaults["nativeSize"],
        height=defaults["nativeSize"],
        num_inference_steps=defaults["steps"],
        guidance_scale=defaults["guidanceScale"],
        negative_prompt="" if "trueCfgScale" in defaults else None,
        true_cfg_scale=defaults.get("trueCfgScale", 1.0),
        max_sequence_length=defaults["maxSequenceLength"],
        generator=torch.Generator("cpu").manual_seed(0),
    )
    print(time.perf_counter() - start, flush=True)
