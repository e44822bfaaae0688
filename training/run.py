"""Trains the next easel-sketch from the packed art to the scored folder, in pieces as long as you have the machine.

    python run.py --work WORK --size large --minutes 9.5 --shards OUT      on a GPU; again and again, until it says that all is done
    python run.py --work WORK --size small                                 slowly, on a CPU
    python run.py --work WORK --size rehearsal                             ten steps of everything, to see that it runs

WORK needs art.zip (README.md says how it is made) and nothing from a network. Every stage goes on from its checkpoint. `--shards`
packs what a machine that is lost afterwards should leave behind into files below 16 MB; `--join` unpacks them into WORK again.
"""

import argparse
import io
import json
import os
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path

import torch

from easel_sketch.common import UNFINISHED, averaged_weights, load_checkpoint, save_checkpoint

HERE = Path(__file__).parent
SHARD = 15 * 2**20  # bytes
CPUS = os.cpu_count() or 1
PROMPTS = HERE / "evaluation/everything.json"


@dataclass(frozen=True)
class Size:
    """How large the networks are and how long each stage trains; options as the stages' scripts take them."""

    shape: list[str]  # of the transformer
    autoencoder: list[str]
    text_encoders: list[str]
    cache: list[str]
    judge: list[str]
    transformer: list[str]
    distil: list[str]


def options(text: str) -> list[str]:
    return text.split()


SIZES = {
    # 28 M parameters, 6 million samples: for half an hour of a data-centre GPU.
    "large": Size(
        shape=options("--heads 6 --double 2 --single 8"),
        autoencoder=options(f"--steps 8000 --crops 64 --pool 20000 --save-every 2000 --widths 24 32 64 128 160 --workers {CPUS - 1}"),
        text_encoders=options("--steps 4000"),
        cache=options(f"--scenes 300000 --workers {CPUS - 1}"),
        judge=options(f"--pictures 60000 --steps 12000 --batch 128 --width 96 --workers {CPUS - 1}"),
        transformer=options(f"--steps 12000 --batch 512 --read 0.1 --plan 0.1 --rate 1.5e-3 --warmup 300 --save-every 1000 --compile --workers {min(8, CPUS - 1)}"),
        distil=options("--steps 1200 --batch 512 --together 256 --draw-every 12 --save-every 400 --compile"),
    ),
    # What a CPU can do in a night.
    "small": Size(
        shape=options("--heads 4 --double 2 --single 4"),
        autoencoder=options("--steps 4000"),
        text_encoders=options("--steps 1500 --mix usual"),
        cache=options("--scenes 20000 --mix usual"),
        judge=options("--pictures 20000 --steps 6000"),
        transformer=options("--steps 12000 --batch 64 --read 0.1 --plan 0.1"),
        distil=options("--steps 400 --mix usual"),
    ),
    "rehearsal": Size(
        shape=options("--heads 2 --double 1 --single 1"),
        autoencoder=options("--steps 10 --pool 32 --save-every 5"),
        text_encoders=options("--steps 10"),
        cache=options("--scenes 320"),
        judge=options("--pictures 64 --steps 10 --batch 16"),
        transformer=options("--steps 10 --batch 16 --read 0.1 --plan 0.1 --save-every 5 --no-compile"),
        distil=options("--steps 10 --batch 8 --together 4 --save-every 5"),
    ),
}


def stages(size: Size, work: Path, distil: bool) -> dict[str, list[str]]:
    """Module and options of each stage, in order; with `distil` the exported model takes one pass a step."""
    exported = str(work / "easel-sketch")
    judge = str(work / "judge.safetensors")
    version = f"trained in {work.name}"
    pictures, results = str(work / "pictures"), str(work / "results.json")
    return {
        "tokenizers": [],
        "autoencoder": size.autoencoder,
        "appearance": [],
        "text_encoders": size.text_encoders,
        "cache": size.cache,
        "judge": [*size.judge, "--nouns", str(PROMPTS), "--export", judge],
        "transformer": [*size.transformer, *size.shape],
        **({"distil": [*size.distil, *size.shape]} if distil else {}),
        "export": [*(["--checkpoint", "distilled", "--distilled"] if distil else []), "--to", exported, *size.shape],
        "paint": [exported, "--prompts", str(PROMPTS), "--to", pictures],
        "evaluate": ["--prompts", str(PROMPTS), "--pictures", pictures, "--results", results, "--version", version, "--judge", judge, "--check-judge"],
    }


def run(work: Path, size: Size, stop_at: float, only: list[str] | None, distil: bool) -> bool:
    """Runs what is not done yet; returns whether everything is."""
    finished = work / "finished.json"
    done: dict[str, float] = json.loads(finished.read_text()) if finished.exists() else {}
    for name, arguments in stages(size, work, distil).items():
        if name in done or only and name not in only:
            continue
        started = time.time()
        place = [] if name == "paint" else ["--work", str(work)]
        print(f"== {name}", flush=True)
        command = [sys.executable, "-u", "-m", f"easel_sketch.{name}", *arguments, *place]
        environment = {**os.environ, "EASEL_STOP_AT": str(stop_at)}
        try:
            # A stage that knows the time stops itself and saves; any other is stopped a little later and loses what it did last.
            code = subprocess.run(command, cwd=HERE, env=environment, timeout=max(1.0, stop_at + 20 - time.time())).returncode
        except subprocess.TimeoutExpired:
            code = UNFINISHED
        if code == UNFINISHED:
            print(f"== {name} is not finished; run this again to go on.", flush=True)
            return False
        if code != 0:
            raise SystemExit(f"The stage {name} failed with exit code {code}; its message is above.")
        done[name] = round(time.time() - started)
        finished.write_text(json.dumps(done, indent=2) + "\n")
    print(f"== all done; seconds of each stage's last piece: {done}", flush=True)
    return True


def pack(work: Path, target: Path, names: list[str]) -> None:
    """Averaged weights of the named checkpoints in half precision (from which training can go on, though with a fresh optimizer), and small files."""
    target.mkdir(parents=True, exist_ok=True)
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for name in names:
            if (work / f"{name}.pt").exists():
                slim = work / f"{name}-slim.pt"
                save_checkpoint(slim, **slimmed(load_checkpoint(work / f"{name}.pt")))
                archive.add(slim, f"{name}.pt")
        for extra in ("finished.json", "appearance.npy", "tokenizer", "tokenizer_2", "sheets"):
            if (work / extra).exists():
                archive.add(work / extra, extra)
    content = buffer.getbuffer()
    for i, start in enumerate(range(0, len(content), SHARD)):
        (target / f"part-{i:02d}.bin").write_bytes(content[start : start + SHARD])
    print(f"{len(content) / 2**20:.0f} MB in {target}", flush=True)


def slimmed(state: dict) -> dict:
    """A checkpoint without its optimizers, the average in the place of the weights, in half precision."""
    key = "model" if "model" in state else "models"
    weights = averaged_weights(state) if key == "model" else state[key]
    half = {name: value.half() if value.dtype == torch.float32 else value for name, value in weights.items()}
    return {key: half, **{name: state[name] for name in ("step", "finished", "nouns", "width", "widths", "reader") if name in state}}


def join(work: Path, source: Path) -> None:
    """Unpacks shards into WORK."""
    work.mkdir(parents=True, exist_ok=True)
    content = b"".join(part.read_bytes() for part in sorted(source.glob("part-*.bin")))
    with tarfile.open(fileobj=io.BytesIO(content)) as archive:
        archive.extractall(work, filter="data")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, required=True)
    parser.add_argument("--size", choices=SIZES, default="small")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after this long; run again to go on")
    parser.add_argument("--only", nargs="+", metavar="STAGE", help="only these stages")
    parser.add_argument("--distil", action="store_true", help="distil guidance into one pass a step before the export; the model card says what that cost")
    parser.add_argument("--join", type=Path, metavar="FOLDER", help="first unpack what --shards packed")
    parser.add_argument("--shards", type=Path, metavar="FOLDER", help="at the end, pack checkpoints into files below 16 MB")
    parser.add_argument("--bring", nargs="+", default=["autoencoder", "text_encoders", "text_encoders-training", "judge", "transformer", "distilled"], help="checkpoints to pack")
    chosen = parser.parse_args()
    work = chosen.work.resolve()
    if chosen.join:
        join(work, chosen.join)
    try:
        run(work, SIZES[chosen.size], time.time() + 60 * chosen.minutes, chosen.only, chosen.distil)
    finally:
        if chosen.shards:
            pack(work, chosen.shards, chosen.bring)
