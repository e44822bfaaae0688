"""Makes tests/fixtures/upscalers: tiny enlarging networks in the namings of Real-ESRGAN, and what spandrel makes of a picture
with them; and what Pillow's Lanczos filter makes of one. Deterministic, CPU.

    venv/bin/python tests/oracle/make_upscaler_fixtures.py
"""

from pathlib import Path

import numpy as np
import torch
from PIL import Image
from safetensors.torch import save_file
from spandrel import ModelLoader
from spandrel.architectures.ESRGAN.__arch import RRDB as esrgan
from spandrel.architectures.Compact.__arch.SRVGG import SRVGGNetCompact

#: Channels that a dense block's convolutions add; every published network has 32.
GROWN = 4
FIXTURES = Path(__file__).parent.parent / "fixtures" / "upscalers"
Weights = dict[str, torch.Tensor]

torch.set_num_threads(1)
torch.use_deterministic_algorithms(True)
torch.manual_seed(5)


def convolution(name: str, outputs: int, inputs: int) -> Weights:
    scale = (inputs * 9) ** -0.5
    return {
        f"{name}.weight": torch.randn(outputs, inputs, 3, 3) * scale,
        f"{name}.bias": torch.randn(outputs) * 0.1,
    }


def compact(activation: str, factor: int) -> Weights:
    weights = SRVGGNetCompact(num_feat=8, num_conv=3, upscale=factor, act_type=activation).state_dict()
    # Learnt slopes begin all alike, which would hide a mixture of channels.
    return {k: v + torch.rand_like(v) * 0.3 if v.dim() == 1 and "bias" not in k else v for k, v in weights.items()}


def rrdb(channels: int, features: int = 8, grown: int = GROWN, blocks: int = 2) -> Weights:
    """As basicsr's RRDBNet names its weights."""
    weights = convolution("conv_first", features, channels)
    for block in range(blocks):
        for dense in (1, 2, 3):
            name = f"body.{block}.rdb{dense}"
            for i in range(1, 5):
                weights |= convolution(f"{name}.conv{i}", grown, features + (i - 1) * grown)
            weights |= convolution(f"{name}.conv5", features, features + 4 * grown)
    for name in ("conv_body", "conv_up1", "conv_up2", "conv_hr"):
        weights |= convolution(name, features, features)
    return weights | convolution("conv_last", 3, features)


full_size_block = esrgan.B.RRDB
esrgan.B.RRDB = lambda *args, **options: full_size_block(*args, **{**options, "gc": GROWN})


def run(weights: Weights, image: torch.Tensor) -> torch.Tensor:
    if "body.1.weight" in weights or "conv_first.weight" in weights:
        model = ModelLoader().load_from_state_dict(dict(weights)).model
    else:
        # spandrel takes every compact network for one with learnt slopes.
        model = SRVGGNetCompact(num_feat=8, num_conv=3, upscale=2, act_type="leakyrelu")
        model.load_state_dict(weights)
    with torch.no_grad():
        return model.float()(image)


def record_lanczos() -> None:
    """`source` and, by size, what it becomes, [H, W, 3]."""
    source = np.random.default_rng(5).integers(0, 256, (9, 13, 3), np.uint8)
    sizes = [(26, 18), (52, 36), (31, 14), (13, 20), (7, 5), (1, 1)]
    pictures = {"source": source} | {
        f"{width}x{height}": np.asarray(Image.fromarray(source).resize((width, height), Image.Resampling.LANCZOS))
        for width, height in sizes
    }
    as_floats = {name: torch.from_numpy(pixels.astype(np.float32)) for name, pixels in pictures.items()}
    save_file(as_floats, FIXTURES / "lanczos.safetensors")


def main() -> None:
    FIXTURES.mkdir(parents=True, exist_ok=True)
    image = torch.rand(1, 3, 12, 10)
    recorded = {"image": image}
    networks = {
        "compact-x4": ("", torch.float32, compact("prelu", 4)),
        "compact-leaky-x2": ("params.", torch.float16, compact("leakyrelu", 2)),
        "rrdb-x4": ("params_ema.", torch.float32, rrdb(3)),
        "rrdb-x2": ("", torch.float32, rrdb(12)),
    }
    for name, (prefix, dtype, weights) in networks.items():
        stored = {k: v.to(dtype).contiguous() for k, v in weights.items()}
        save_file({prefix + k: v for k, v in stored.items()}, FIXTURES / f"{name}.safetensors")
        recorded[name] = run({k: v.float() for k, v in stored.items()}, image)
        if name == "rrdb-x4":
            # spandrel keeps these networks under ESRGAN's own names.
            old = ModelLoader().load_from_state_dict(dict(weights)).model.state_dict()
            save_file({k: v.contiguous() for k, v in old.items()}, FIXTURES / "esrgan-x4.safetensors")
        print(name, tuple(recorded[name].shape), float(recorded[name].std()))
    save_file(recorded, FIXTURES / "recorded.safetensors")
    record_lanczos()


if __name__ == "__main__":
    main()
