"""
Writes a checkpoint's averaged weights as a safetensors file in Real-ESRGAN's naming.

    python -m easel_upscale.export WORK/upscale-x4.pt --to ../models/easel-upscale/x4.safetensors
"""

import argparse
from pathlib import Path

import torch
from safetensors.torch import save_file

from easel_sketch.common import load_checkpoint


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("checkpoint", type=Path)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--dtype", choices=("float16", "float32"), default="float16")
    args = parser.parse_args()

    saved = load_checkpoint(args.checkpoint)
    dtype = getattr(torch, args.dtype)
    weights = {name: value.to(dtype).contiguous() for name, value in saved["average"]["values"].items()}
    args.to.parent.mkdir(parents=True, exist_ok=True)
    unfinished = args.to.with_suffix(".tmp")
    save_file(weights, unfinished, {"format": "pt", "architecture": "SRVGGNetCompact"})
    unfinished.replace(args.to)
    count = sum(value.numel() for value in weights.values())
    minutes = saved["cpu_seconds"] / 60
    print(f"{args.to}: {count} parameters, step {saved['step']}, {minutes:.0f} CPU minutes")


if __name__ == "__main__":
    main()
