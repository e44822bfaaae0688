"""Scores pictures of the fixed prompts: a GenEval of our own.

    python -m easel_sketch.evaluate --prompts evaluation/sketch-2.json --version "easel-sketch 2" --pictures FOLDER
    python -m easel_sketch.evaluate --prompts evaluation/sketch-2.json --check-judge --work WORK

FOLDER holds one unpicked picture for each prompt (0000.png and so on, the first seed), drawn by `draw-samples.ts` (Easel) or
`easel_sketch.paint` (diffusers), so that any model can be judged. The figures are kept in evaluation/results.json; the table of all of them
is printed as markdown. `--check-judge` measures the judge itself on renders of the prompts.
"""

import argparse
import json
import random
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from . import judge as judging
from .bank import ArtBank
from .common import save_sheet
from .evaluation_prompts import KINDS, Question, near_miss, read
from .judge import Found, Judge

RESULTS = Path(__file__).parent.parent / "evaluation/results.json"
JUDGE = Path(__file__).parent.parent / "evaluation/judge.safetensors"
YARDSTICK = {
    "name": "FLUX.1-dev on GenEval itself (photographs of 80 everyday things; another domain)",
    "scores": {"one object": 0.98, "two objects": 0.81, "counting": 0.74, "colours": 0.79, "position": 0.22, "attribution": 0.45, "overall": 0.66},
}
APART = 0.08  # of the picture's side: what two centres must differ by to stand left, right, above or below
CHECKS = 4  # renders of each prompt, for the judge's own accuracy


def is_right(question: Question, found: list[Found]) -> bool:
    """GenEval's rules: what is asked for is there; other things do not matter, except more of the same where the prompt counts."""
    things = question.scene.things
    seen = [[f for f in found if f.noun == thing.noun] for thing in things]
    match question.kind:
        case "counting":
            return len(seen[0]) == things[0].count
        case "colours" | "attribution":
            return all(any(f.colour == thing.colour for f in these) for thing, these in zip(things, seen))
        case "position":
            return any(_stands(a, question.scene.relation, b) for a in seen[0] for b in seen[1])
        case _:
            return all(seen)


def _stands(a: Found, relation: str | None, b: Found) -> bool:
    """Whether `a` is mostly left of, right of, above or below `b`."""
    dx, dy = a.x - b.x, a.y - b.y
    along, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[relation or "left"]
    return along > APART and along > abs(across)


def scores(questions: list[Question], right: list[bool]) -> dict[str, float]:
    """The share of right pictures for each kind, and the mean of the kinds."""
    shares = {kind: float(np.mean([r for q, r in zip(questions, right) if q.kind == kind])) for kind in KINDS}
    return {name: round(share, 3) for name, share in {**shares, "overall": float(np.mean(list(shares.values())))}.items()}


def first_of_each(questions: list[Question], count: int) -> list[int]:
    """Where the first `count` prompts of every kind stand in the list."""
    return [i for kind in KINDS for i in [j for j, question in enumerate(questions) if question.kind == kind][:count]]


def check(judge: Judge, bank: ArtBank, questions: list[Question]) -> dict[str, dict[str, float]]:
    """The share of renders that the judge calls right: those that show what a prompt asks for, those that narrowly fail it, and with a drawing ruined."""
    rng = random.Random(40)
    asked = questions * CHECKS
    numbers = {noun: i for i, noun in enumerate(judge.nouns)}
    rendered = (bank.render(question.scene, rng) for question in asked)
    sound, drawings = zip(*((judging.reduced(picture), there) for picture, there in rendered))
    missed = [judging.reduced(bank.render(near_miss(question, judge.nouns, rng), rng)[0]) for question in asked]
    labels = (judging.label(rng.choice(there), question.scene, numbers) for question, there in zip(asked, drawings))
    ruined = [judging.ruined(picture, label, rng) for picture, label in zip(sound, labels)]
    return {
        name: scores(asked, [is_right(question, found) for question, found in zip(asked, judging.look(judge, pictures))])
        for name, pictures in (("right", sound), ("near misses", missed), ("ruined", ruined))
    }


def pictures_of(folder: Path, numbers: list[int]) -> list[np.ndarray]:
    files = [folder / f"{i:04d}.png" for i in numbers]
    if missing := [file.name for file in files if not file.exists()]:
        raise SystemExit(f"{len(missing)} of {len(files)} pictures are missing in {folder}, the first is {missing[0]}; draw them all first.")
    return [np.asarray(Image.open(file).convert("RGB")) for file in files]


def marked(picture: np.ndarray, right: bool) -> np.ndarray:
    """The picture at a quarter of its size in a green or red frame, for the sheet."""
    small = np.pad(np.asarray(Image.fromarray(picture).resize((96, 96), Image.Resampling.BOX)), ((4, 4), (4, 4), (0, 0)))
    frame = np.ones((104, 104), bool)
    frame[4:-4, 4:-4] = False
    small[frame] = (40, 160, 60) if right else (210, 40, 40)
    return small


def table(results: dict) -> str:
    """Markdown: versions down, kinds across."""
    columns = [*KINDS, "overall"]
    lines = [f"| | prompts | {' | '.join(columns)} |", f"|---|---|{'---|' * len(columns)}"]
    rows = {**results.get("versions", {}), YARDSTICK["name"]: YARDSTICK["scores"]}
    if "judge" in results:
        rows["the judge, on renders of the same prompts"] = results["judge"]["right"]
        rows["the judge, wrongly content with a near miss"] = results["judge"]["near misses"]
        rows["the judge, wrongly content with a ruined drawing"] = results["judge"]["ruined"]
    for name, row in rows.items():
        lines.append(f"| {name} | {row.get('prompts', '')} | {' | '.join(_rounded(row[column]) for column in columns)} |")
    return "\n".join(lines)


def _rounded(share: float) -> str:
    """Two digits, halves upwards as JavaScript rounds them, which the tests compare."""
    return str(Decimal(share).quantize(Decimal("0.01"), ROUND_HALF_UP))


def evaluate(options: argparse.Namespace) -> None:
    file = options.results
    results = json.loads(file.read_text()) if file.exists() else {}
    mine = results.setdefault(options.prompts.stem, {})
    questions = read(options.prompts)
    judge = judging.load(options.judge)
    strangers = {thing.noun for question in questions for thing in question.scene.things} - set(judge.nouns)
    if strangers:
        raise SystemExit(f"The judge does not know {len(strangers)} of the things in {options.prompts.name}, such as {min(strangers)}: train one that does.")
    if options.check_judge:
        mine["judge"] = check(judge, ArtBank(options.work), questions)
    if options.pictures:
        asked = first_of_each(questions, options.first)
        pictures = pictures_of(options.pictures, asked)
        right = [is_right(questions[i], found) for i, found in zip(asked, judging.look(judge, pictures))]
        mine.setdefault("versions", {})[options.version] = {"prompts": len(asked), **scores([questions[i] for i in asked], right)}
        if options.sheet:
            save_sheet(options.sheet, [marked(picture, ok) for picture, ok in zip(pictures, right)], columns=30)
    temporary = file.with_suffix(".tmp")
    temporary.write_text(json.dumps(results, indent=2) + "\n")
    temporary.replace(file)
    print(table(mine))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--prompts", type=Path, required=True)
    parser.add_argument("--judge", type=Path, default=JUDGE, help="an exported judge; without it, the one beside the prompts")
    parser.add_argument("--pictures", type=Path, help="folder of pictures to judge")
    parser.add_argument("--first", type=int, default=10**6, help="only this many prompts of each kind")
    parser.add_argument("--version", default="unnamed", help="what the table calls these pictures")
    parser.add_argument("--results", type=Path, default=RESULTS, help="file of all figures, which gains these")
    parser.add_argument("--sheet", type=Path, help="where to draw the judged pictures, small, the right ones in green frames")
    parser.add_argument("--check-judge", action="store_true", help="measure the judge itself on renders of the prompts")
    parser.add_argument("--work", type=Path, help="folder with the art bank, for --check-judge")
    torch.set_num_threads(1)
    arguments = parser.parse_args()
    if arguments.check_judge and not arguments.work:
        parser.error("--check-judge needs --work, the folder with the art bank")
    evaluate(arguments)
