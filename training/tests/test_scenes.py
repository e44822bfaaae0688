"""What training sees and the evaluation keeps aside: scenes, where things stand in them, captions and prompts.

    python -m unittest discover

Needs Python alone; `.ci/run` runs it.
"""

import random
import unittest
from pathlib import Path

from easel_sketch import captions, evaluation_prompts
from easel_sketch.layout import FLOATING, is_open, lay_out
from easel_sketch.scenes import LARGEST_COUNT, MIXES, Scene, Thing, is_held_out, is_sensible, random_scene
from easel_sketch.vocabulary import NOUNS

LISTS = ("sketch-1", "sketch-2", "everything")
TOKEN = 1 / 8  # of the picture's side


def scenes(count: int = 500, **options) -> list[Scene]:
    rng = random.Random(1)
    return [random_scene(rng, mix=MIXES["broad"], **options) for _ in range(count)]


def centre_and_size(scene: Scene, number: int) -> tuple[float, float, float]:
    """Of the only drawing of a thing: across, down, size."""
    (slot,) = (slot for slot in lay_out(scene, None) if slot.thing is scene.things[number])
    return slot.centre, slot.bottom - slot.size / 2, slot.size


class ScenesOfTraining(unittest.TestCase):
    def test_have_nothing_that_the_evaluation_keeps_aside(self):
        self.assertFalse(any(is_held_out(scene) for scene in scenes()))
        self.assertTrue(all(is_held_out(scene) for scene in scenes(50, held_out=True)))

    def test_have_one_to_four_drawings_of_different_things(self):
        for scene in scenes():
            self.assertLessEqual(sum(thing.count for thing in scene.things), LARGEST_COUNT)
            self.assertEqual(len({thing.noun for thing in scene.things}), len(scene.things))

    def test_are_the_same_for_the_same_seed(self):
        self.assertEqual(scenes(50), scenes(50))


class Layout(unittest.TestCase):
    def test_gives_every_drawing_a_slot_inside_the_picture(self):
        for scene in scenes():
            for exact in (True, False):
                slots = lay_out(scene, None if exact else random.Random(2))
                self.assertEqual(len(slots), sum(thing.count for thing in scene.things))
                for slot in slots:
                    self.assertGreaterEqual(slot.centre - slot.size / 2, -0.02, scene)
                    self.assertLessEqual(slot.centre + slot.size / 2, 1.02, scene)
                    self.assertGreaterEqual(slot.bottom - slot.size, -0.02, scene)
                    self.assertLessEqual(slot.bottom, 1.02, scene)

    def test_puts_a_thing_into_the_same_slot_every_time_unless_told_otherwise(self):
        slots: dict[tuple, set] = {}
        for scene in scenes():
            (thing, *others), floats = scene.things, NOUNS[scene.things[0].noun].kind in FLOATING
            if not others and thing.count == 1:
                slots.setdefault((thing.size, is_open(scene), floats), set()).add(centre_and_size(scene, 0))
            self.assertNotEqual(lay_out(scene, random.Random(1)), lay_out(scene, random.Random(2)))
        self.assertGreater(len(slots), 4)
        self.assertEqual({len(places) for places in slots.values()}, {1}, slots)

    def test_keeps_two_things_as_large_in_all_relations_and_whole_tokens_apart(self):
        cat, car = Thing("cat"), Thing("car")
        sizes = set()
        for relation in (None, "left", "right", "above", "below", "beside"):
            scene = Scene((cat, car), relation)
            (x, y, size), (other_x, other_y, other_size) = (centre_and_size(scene, number) for number in (0, 1))
            sizes |= {round(size, 6), round(other_size, 6)}
            for distance in (other_x - x, other_y - y):
                self.assertAlmostEqual(distance / TOKEN, round(distance / TOKEN), msg=relation)
        self.assertEqual(len(sizes), 1)

    def test_puts_the_first_thing_where_the_relation_says(self):
        cat, car = Thing("cat"), Thing("car")
        for place in ("unnamed", "meadow"):
            for relation, axis, sign in (("left", 0, -1), ("right", 0, 1), ("above", 1, -1), ("below", 1, 1), (None, 0, -1)):
                scene = Scene((cat, car), relation, place)
                first, second = centre_and_size(scene, 0), centre_and_size(scene, 1)
                self.assertGreater(sign * (first[axis] - second[axis]), 0.3, (relation, place))


class Captions(unittest.TestCase):
    def test_name_every_thing_of_their_scene_by_one_of_its_words(self):
        rng = random.Random(3)
        for scene in scenes():
            text, spans = captions.named_caption(scene, rng, ["chair-leg"])
            self.assertEqual(len(spans), len(scene.things), text)
            for thing, (start, end) in zip(scene.things, spans):
                noun = NOUNS[thing.noun]
                words = [form.lower() for word in (*noun.words, *noun.near) for form in (word, captions.plural(word))]
                self.assertIn(text[start:end].lower(), words, text)


class ListsOfPrompts(unittest.TestCase):
    def test_ask_ninety_of_each_kind_none_twice(self):
        for name in LISTS:
            questions = self.questions(name)
            self.assertEqual(len({question.prompt for question in questions}), len(questions))
            for kind in evaluation_prompts.KINDS:
                self.assertEqual(sum(question.kind == kind for question in questions), evaluation_prompts.PER_KIND, (name, kind))

    def test_ask_for_what_training_never_sees(self):
        for name in LISTS:
            for question in self.questions(name):
                plain = question.kind == "one object" or question.kind == "counting" and question.scene.things[0].count == 1
                self.assertTrue(plain or is_held_out(question.scene), (name, question.prompt))

    def test_have_near_misses_that_fail_them_in_one_thing(self):
        rng = random.Random(3)
        for name in LISTS:
            for question in self.questions(name):
                asked, missed = question.scene, evaluation_prompts.near_miss(question, list(NOUNS), rng)
                differs = {
                    "counting": missed.things[0].count != asked.things[0].count,
                    "colours": missed.things[0].colour != asked.things[0].colour,
                    "position": missed.relation != asked.relation,
                    "attribution": [thing.colour for thing in missed.things] == [thing.colour for thing in reversed(asked.things)],
                }.get(question.kind, missed.things[-1].noun != asked.things[-1].noun)
                self.assertTrue(differs, question.prompt)
                self.assertEqual((missed.place, len(missed.things)), (asked.place, len(asked.things)))
                self.assertTrue(is_sensible(missed) or not is_sensible(asked), question.prompt)

    @staticmethod
    def questions(name: str) -> list[evaluation_prompts.Question]:
        return evaluation_prompts.read(Path(__file__).parent.parent / f"evaluation/{name}.json")


if __name__ == "__main__":
    unittest.main()
