"""Runs one step of FLUX's transformer in diffusers, with random weights, for each line on stdin; prints its seconds.

Arguments: one JSON object with width, height, doubleBlocks, singleBlocks, textTokens, threads (null: torch's choice) and kind: fp32,
bf16, or int8-ENGINE, which is torch's dynamic quantization of every linear layer with that engine (onednn, fbgemm, x86).
"""

import json
import sys
import time
import warnings

import torch
from diffusers import FluxTransformer2DModel

warnings.filterwarnings("ignore", category=DeprecationWarning)
options = json.loads(sys.argv[1])
kind = options["kind"]
if options["threads"] is not None:
    torch.set_num_threads(options["threads"])
torch.manual_seed(0)
dtype = torch.bfloat16 if kind == "bf16" else torch.float32

with torch.device("meta"):  # without the slow initialisation of every weight
    model = FluxTransformer2DModel(
        num_layers=options["doubleBlocks"],
        num_single_layers=options["singleBlocks"],
        guidance_embeds=True,
    )
model = model.to(dtype).to_empty(device="cpu").eval().requires_grad_(False)
noise = (torch.rand(1 << 20) * 2 - 1) / 64
for weight in model.parameters():
    flat = weight.view(-1)
    for start in range(0, flat.numel(), noise.numel()):
        flat[start : start + noise.numel()] = noise[: flat.numel() - start]

if kind.startswith("int8-"):
    torch.backends.quantized.engine = kind.removeprefix("int8-")
    model = torch.ao.quantization.quantize_dynamic(model, {torch.nn.Linear}, dtype=torch.qint8, inplace=True)

rows, columns = options["height"] // 16, options["width"] // 16
image_ids = torch.zeros(rows, columns, 3)
image_ids[..., 1] = torch.arange(rows)[:, None]
image_ids[..., 2] = torch.arange(columns)[None, :]
inputs = {
    "hidden_states": torch.randn(1, rows * columns, 64, dtype=dtype),
    "encoder_hidden_states": torch.randn(1, options["textTokens"], 4096, dtype=dtype),
    "pooled_projections": torch.randn(1, 768, dtype=dtype),
    "timestep": torch.tensor([0.5], dtype=dtype),
    "guidance": torch.tensor([3.5], dtype=torch.float32),
    "img_ids": image_ids.reshape(-1, 3),
    "txt_ids": torch.zeros(options["textTokens"], 3),
    "return_dict": False,
}

for _ in sys.stdin:
    start = time.perf_counter()
    with torch.inference_mode():
        model(**inputs)
    print(time.perf_counter() - start, flush=True)
