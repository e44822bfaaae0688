"""Renders the training scenes once and keeps their latents, so that transformer steps cost nothing but the transformer.

    python -m easel_sketch.cache --work WORK --scenes 20000

Writes latents.npy (float16 [N, 16, 16, 16]), covered.npy (uint8 [N, 8, 8]: how much of each token's cell is inside a drawing's box, of 255),
standing.npy (uint8 [N, 8, 8]: the number of the thing in the cell, from 1, or 0) and, in cached.json, how many are done and of which mix. Scene `i` is made from seed `i` and the mix
alone, so the cache can be extended later and nothing about the scenes needs to be stored.
"""

import argparse
import json
import random
import time
from pathlib import Path

import numpy as np
import torch

from . import autoencoder
from .bank import ArtBank, Instance
from .common import DEVICE, end_of_run, is_time_up, to_tensor
from .flow import GRID
from .scenes import MIXES, SIZE, Scene, random_scene

FIRST_SEED = 1_000_000
BATCH = 16 if DEVICE.type == "cpu" else 128


def cached_scene(index: int, mix: str) -> tuple[Scene, random.Random]:
    """The scene at `index` of a cache of `mix`, and the generator to render it with."""
    rng = random.Random(FIRST_SEED + index)
    return random_scene(rng, mix=MIXES[mix]), rng


def cached_scenes(work: Path) -> list[Scene]:
    """What is in the cached pictures."""
    cached = json.loads((work / "cached.json").read_text())
    return [cached_scene(i, cached["mix"])[0] for i in range(cached["scenes"])]


class Renders(torch.utils.data.Dataset):
    def __init__(self, work: Path, mix: str, start: int, stop: int):
        self.work, self.mix, self.start, self.stop, self.bank = work, mix, start, stop, None

    def __len__(self) -> int:
        return self.stop - self.start

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The picture, what of it drawings cover, and what stands where, as in covered.npy and standing.npy."""
        self.bank = self.bank or ArtBank(self.work)
        scene, rng = cached_scene(self.start + i, self.mix)
        picture, instances = self.bank.render(scene, rng, exact=True)
        return picture, covered([instance.box for instance in instances]), standing(scene, instances)


def covered(boxes: list[tuple[int, int, int, int]]) -> np.ndarray:
    """uint8 [8, 8]: the share of each token's cell that is inside one of the boxes (left, top, right, bottom in pixels)."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = 255
    return mask.reshape(GRID, SIZE // GRID, GRID, SIZE // GRID).mean((1, 3)).round().astype(np.uint8)


def standing(scene: Scene, instances: list[Instance]) -> np.ndarray:
    """uint8 [8, 8]: for each token's cell the number of the thing, from 1 in the order of `scene.things`, in whose box its middle lies; the last painted wins."""
    numbers = {thing.noun: i for i, thing in enumerate(scene.things, 1)}
    grid = np.zeros((GRID, GRID), np.uint8)
    for instance in instances:
        first_x, first_y, last_x, last_y = (round(GRID * edge / SIZE) for edge in instance.box)
        grid[first_y:last_y, first_x:last_x] = numbers[instance.noun]
    return grid


@torch.no_grad()
def fill(work: Path, mix: str, count: int, workers: int) -> None:
    """Goes on where it stopped; a cache of another mix, or one without standing.npy, is begun afresh."""
    model = autoencoder.load(work).to(DEVICE, memory_format=torch.channels_last)
    latents = _open(work / "latents.npy", np.float16, (count, 16, 16, 16))
    counter = work / "cached.json"
    cached = json.loads(counter.read_text()) if counter.exists() and (work / "standing.npy").exists() else {}
    cover, stand = (_open(work / name, np.uint8, (count, GRID, GRID)) for name in ("covered.npy", "standing.npy"))
    done = start = cached["scenes"] if cached.get("mix") == mix else 0
    counter.write_text(json.dumps({"scenes": done, "mix": mix}))  # before anything of another mix is overwritten
    started = time.time()
    loader = torch.utils.data.DataLoader(Renders(work, mix, done, count), BATCH, collate_fn=_stacked, num_workers=workers)
    for pictures, shares, things in loader:
        pixels = to_tensor(pictures).to(DEVICE, memory_format=torch.channels_last)
        latents[done : done + len(pictures)] = autoencoder.encode_mean(model, pixels).cpu().numpy()
        cover[done : done + len(pictures)], stand[done : done + len(pictures)] = shares, things
        done += len(pictures)
        if done // 2000 > (done - len(pictures)) // 2000:
            counter.write_text(json.dumps({"scenes": done, "mix": mix}))
            print(f"{done} scenes, {(done - start) / (time.time() - started):.0f} a second", flush=True)
        if is_time_up():
            break
    for array in (latents, cover, stand):
        array.flush()
    counter.write_text(json.dumps({"scenes": done, "mix": mix}))
    sample = np.asarray(latents[: min(done, 4000)], np.float32)
    print("latent channel means", sample.mean((0, 2, 3)).round(2), "deviations", sample.std((0, 2, 3)).round(2))
    end_of_run(done, count)


def _stacked(rendered: list[tuple[np.ndarray, ...]]) -> tuple[np.ndarray, ...]:
    return tuple(np.stack(parts) for parts in zip(*rendered))


def _open(path: Path, dtype: type, shape: tuple[int, ...]) -> np.memmap:
    """Opens or makes an array on disk; a longer `shape` extends it."""
    if path.exists():
        old = np.load(path, mmap_mode="r")
        if old.shape == shape:
            return np.load(path, mmap_mode="r+")
        longer = np.lib.format.open_memmap(path.with_suffix(".new"), "w+", dtype, shape)
        longer[: len(old)] = old
        path.with_suffix(".new").replace(path)
        return longer
    return np.lib.format.open_memmap(path, "w+", dtype, shape)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--mix", choices=MIXES, default="everything", help="of the scenes")
    parser.add_argument("--scenes", type=int, default=20_000)
    parser.add_argument("--workers", type=int, default=1, help="processes that render")
    parser.add_argument("--threads", type=int, default=2, help="of a CPU")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    fill(arguments.work, arguments.mix, arguments.scenes, arguments.workers)
