"""Categories by likeness, with the real embeddings that hints are found by."""

from __future__ import annotations

import random

from distillery.database import Database
from distillery.environments.base import Task
from distillery.hints.categories import assign_categories
from distillery.hints.embedder import Embedder

COUNTRIES = ("France", "Spain", "Peru", "Chad", "Japan", "India", "Kenya", "Cuba")


def goal(kind: str, drawn: random.Random) -> str:
    match kind:
        case "arithmetic":
            return f"add {drawn.randint(2, 99)} and {drawn.randint(2, 99)}"
        case "capitals":
            return f"name the capital of {drawn.choice(COUNTRIES)}"
        case "code":
            verb, things = drawn.choice(("sorts", "reverses", "counts")), drawn.choice(("words", "numbers", "files"))
            return f"write a python function that {verb} a list of {things}"
        case _:
            return f"buy a {drawn.choice(('red', 'blue', 'green'))} {drawn.choice(('shirt', 'shoe', 'lamp', 'mug'))}"


async def test_tasks_of_four_kinds_get_four_categories(database: Database):
    drawn = random.Random(0)
    kinds = [drawn.choice(["arithmetic", "capitals", "code", "shopping"]) for _ in range(120)]
    tasks = [Task(str(number), "train", "", goal(kind, drawn)) for number, kind in enumerate(kinds)]
    embeddings = await Embedder(database).vectors([task.goal for task in tasks])
    given = assign_categories({"train": tasks[:90], "evaluate": tasks[90:]}, embeddings, learned_from="train")
    categories = [task.category for task in [*given["train"], *given["evaluate"]]]
    assert len(set(zip(kinds, categories, strict=True))) == len(set(kinds)) == len(set(categories)) == 4
