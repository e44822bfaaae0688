"""The MIT-licensed networks of the npm packages @upscalerjs/esrgan-*, read from their TensorFlow.js files and run by torch."""

import json
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional as F


class Peer:
    """One model.json with its weight shards."""

    def __init__(self, folder: Path, input_range: float):
        model = json.loads((folder / "model.json").read_text())
        self.layers = model["modelTopology"]["model_config"]["config"]["layers"]
        self.input_range = input_range
        self.weights: dict[str, torch.Tensor] = {}
        for group in model["weightsManifest"]:
            data = b"".join((folder / path).read_bytes() for path in group["paths"])
            at = 0
            for entry in group["weights"]:
                count = int(np.prod(entry["shape"]))
                values = np.frombuffer(data, np.float32, count, at).reshape(entry["shape"])
                self.weights[entry["name"]] = torch.from_numpy(values.copy())
                at += 4 * count

    @torch.no_grad()
    def __call__(self, picture: np.ndarray) -> np.ndarray:
        """uint8 [H, W, 3] → uint8, larger."""
        values: dict[str, torch.Tensor] = {}
        x = torch.from_numpy(picture.copy()).permute(2, 0, 1)[None].float() / 255 * self.input_range
        for layer in self.layers:
            name, config = layer["config"].get("name", layer["name"]), layer["config"]
            inputs = [values[source[0]] for source in layer["inbound_nodes"][0]] if layer["inbound_nodes"] else []
            values[layer["name"]] = x = self._apply(layer["class_name"], name, config, inputs, x)
        picture = (x[0].permute(1, 2, 0) / self.input_range).clamp(0, 1) * 255
        return picture.round().byte().numpy()

    def _apply(self, kind: str, name: str, config: dict, inputs: list[torch.Tensor], picture: torch.Tensor) -> torch.Tensor:
        match kind:
            case "InputLayer":
                return picture
            case "Conv2D":
                weight = self.weights[f"{name}/kernel"].permute(3, 2, 0, 1)
                y = F.conv2d(inputs[0], weight, self.weights[f"{name}/bias"], padding=weight.shape[-1] // 2)
                return F.relu(y) if config["activation"] == "relu" else y
            case "Activation":
                return F.relu(inputs[0])
            case "Concatenate":
                return torch.cat(inputs, 1)
            case "Add":
                return torch.stack(inputs).sum(0)
            case "MultiplyBeta":
                return inputs[0] * config.get("beta", 0.2)
            case "UpSampling2D":
                mode = config.get("interpolation", "nearest")
                return F.interpolate(inputs[0], scale_factor=config["size"][0], mode=mode)
            case _ if kind.startswith("PixelShuffle"):
                return depth_to_space(inputs[0], int(kind.removeprefix("PixelShuffle").removesuffix("x")))
        raise ValueError(f"unknown layer {kind}")


def depth_to_space(x: torch.Tensor, factor: int) -> torch.Tensor:
    """TensorFlow's order: a block's pixels are counted before the channels."""
    batch, channels, height, width = x.shape
    blocks = x.reshape(batch, factor, factor, channels // factor**2, height, width)
    return blocks.permute(0, 3, 4, 1, 5, 2).reshape(batch, -1, height * factor, width * factor)
