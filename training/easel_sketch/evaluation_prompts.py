"""The evaluation's fixed prompts: six kinds, as in GenEval (Ghosh et al., 2023), over the model's own vocabulary.

    python -m easel_sketch.evaluation_prompts --to evaluation/everything.json
    python -m easel_sketch.evaluation_prompts --first 150 --to evaluation/sketch-2.json

The lists are committed and stay as they are; this script, which draws from a fixed seed, says where they came from (a later vocabulary gives
another list; sketch-1.json was drawn from the 78 nouns of the first easel-sketch, some of which had other names). Wherever training keeps something aside
(`scenes.is_held_out`: noun × colour × place, pairs of nouns, noun × count), the prompts are of what it kept aside.
"""

import argparse
import json
import random
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from .english import article, is_countable, plural
from .scenes import EARLIER_NAMES, LARGEST_COUNT, Scene, Thing, is_held_out, is_sensible
from .vocabulary import COLOURS, HABITATS, NOUNS, PLACES, PLAIN

KINDS = ("one object", "two objects", "counting", "colours", "position", "attribution")
PER_KIND = 90
NUMBERS = {1: "one", 2: "two", 3: "three", 4: "four"}
RELATIONS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}


@dataclass(frozen=True)
class Question:
    """A prompt and what must be in its picture; `kind` is one of KINDS."""

    kind: str
    prompt: str
    scene: Scene


# What the nouns of earlier lists are called now.
_TODAY = {earlier: name for name, earlier in EARLIER_NAMES.items()}


def read(path: Path) -> list[Question]:
    records = json.loads(path.read_text())["prompts"]
    return [Question(r["kind"], r["prompt"], _scene_of(r)) for r in records]


def _scene_of(record: dict) -> Scene:
    things = tuple(Thing(_TODAY.get(thing["noun"], thing["noun"]), thing.get("colour"), count=thing.get("count", 1)) for thing in record["things"])
    return Scene(things, record.get("relation"), record["place"])


def _record(question: Question) -> dict:
    """Only what the prompt says: defaults are left out."""
    scene = question.scene
    things = [{key: value for key, value in asdict(thing).items() if value not in (None, 1)} for thing in scene.things]
    relation = {"relation": scene.relation} if scene.relation else {}
    return {"kind": question.kind, "prompt": question.prompt, "things": things, **relation, "place": scene.place}


_OPPOSITE = {"left": "right", "right": "left", "above": "below", "below": "above"}


def near_miss(question: Question, nouns: list[str], rng: random.Random) -> Scene:
    """A scene that fails the prompt in one thing: another noun, one more or less, another colour or none, the
    other side, or the colours exchanged."""
    scene = question.scene
    *others, last = scene.things
    while True:
        match question.kind:
            case "counting":
                things = (replace(last, count=last.count + rng.choice((-1, 1))),)
            case "colours":
                # The usual look, as a model that ignores colours draws it, unless it may be called by the colour that is asked for.
                usual = None if NOUNS[last.noun].natural != last.colour else last.colour
                things = (replace(last, colour=rng.choice((usual, rng.choice(COLOURS)))),)
            case "position":
                things = scene.things
            case "attribution":
                things = (replace(others[0], colour=last.colour), replace(last, colour=others[0].colour))
            case _:
                things = (*others, replace(last, noun=rng.choice(nouns)))
        missed = replace(scene, things=things, relation=_OPPOSITE.get(scene.relation or "", scene.relation))
        if missed != scene and 0 < things[0].count <= LARGEST_COUNT and (is_sensible(missed) or not is_sensible(scene)):
            return missed


Nouns = dict[str, list[str]]  # with the colours that each may be asked in


def questions(kind: str, nouns: Nouns, count: int, rng: random.Random) -> list[Question]:
    """`count` different prompts; nouns (in a random order) and counts take turns, so that all come up about equally often."""
    made: dict[str, Question] = {}
    turn: list[str] = []
    while len(made) < count:
        turn = turn or rng.sample(list(nouns), len(nouns))
        question = _ask(kind, turn.pop(), 1 + len(made) % LARGEST_COUNT, nouns, rng)
        if question and question.prompt not in made:
            made[question.prompt] = question
    return list(made.values())


def _ask(kind: str, noun: str, number: int, nouns: Nouns, rng: random.Random) -> Question | None:
    """A question about `noun` and, where possible, something that training never saw; None when there is none."""
    for _ in range(300):
        scene = _scene(kind, noun, number, nouns, rng)
        nothing_to_keep_aside = kind == "one object" or kind == "counting" and scene.things[0].count == 1
        countable = kind != "counting" or NOUNS[noun].countable
        if countable and all(thing.colour in (None, *nouns[thing.noun]) for thing in scene.things) and is_sensible(scene) and (nothing_to_keep_aside or is_held_out(scene)):
            return Question(kind, _prompt(kind, scene), scene)
    return None


def _scene(kind: str, noun: str, number: int, nouns: Nouns, rng: random.Random) -> Scene:
    def coloured(name: str) -> Thing:
        return Thing(name, rng.choice(nouns[name] or ["none"]))

    place = rng.choice(HABITATS[NOUNS[noun].kind]) if rng.random() < 0.8 else f"plain {rng.choice(PLAIN)}"
    somewhere = place if rng.random() < 0.5 else "unnamed"
    match kind:
        case "one object":
            return Scene((Thing(noun),), place=somewhere)
        case "two objects":
            return Scene((Thing(noun), Thing(rng.choice(list(nouns)))), place=somewhere)
        case "counting":
            return Scene((Thing(noun, count=number),), place=somewhere)
        case "colours":
            return Scene((coloured(noun),), place=place)
        case "position":
            return Scene((Thing(noun), Thing(rng.choice(list(nouns)))), rng.choice(list(RELATIONS)), somewhere)
        case "attribution":
            first, second = coloured(noun), coloured(rng.choice(list(nouns)))
            return Scene((first, second if second.colour != first.colour else Thing(second.noun, "none")), place=somewhere)
    raise ValueError(f"There is no kind of prompt called {kind}.")


def _prompt(kind: str, scene: Scene) -> str:
    names = [_name(thing, kind == "counting") for thing in scene.things]
    things = f" {RELATIONS[scene.relation] if scene.relation else 'and'} ".join(names)
    if scene.place == "unnamed":
        return things
    if scene.place.startswith("plain "):
        colour = scene.place.removeprefix("plain ")
        return f"{things} on {article(colour)} {colour} background"
    return f"{things} {PLACES[scene.place].words[0]}"


def _name(thing: Thing, counted: bool) -> str:
    word = NOUNS[thing.noun].words[0]
    if counted:
        return f"{NUMBERS[thing.count]} {word if thing.count == 1 else plural(word)}"
    phrase = f"{thing.colour} {word}" if thing.colour else word
    return f"{article(phrase)} {phrase}" if is_countable(word) else phrase


def make(target: Path, first: int | None) -> None:
    nouns = {noun.name: list(noun.colours) for noun in list(NOUNS.values())[:first]}
    rng = random.Random(2026)
    asked = [question for kind in KINDS for question in questions(kind, nouns, PER_KIND, rng)]
    lines = ",\n".join(f"    {json.dumps(_record(question), ensure_ascii=False)}" for question in asked)
    known = ",\n".join(f"    {json.dumps(noun)}: {json.dumps(colours)}" for noun, colours in nouns.items())
    target.write_text(f'{{\n  "nouns": {{\n{known}\n  }},\n  "prompts": [\n{lines}\n  ]\n}}\n')
    print(f"{len(asked)} prompts about {len(nouns)} nouns in {target}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--to", type=Path, required=True)
    parser.add_argument("--first", type=int, help="only this many of the nouns, the commonest")
    arguments = parser.parse_args()
    make(arguments.to, arguments.first)
