"""The instructions for agents in ALFWorld, in our own words: the commands, and worked examples.

The examples in ``examples.json`` were played on generated games of a split of their own; each names its game by the
arguments of ``game_generator.make_game``. The integration tests play them again.
"""

from __future__ import annotations

import json
from functools import cache
from importlib.resources import files

from distillery.environments.base import Example, ExampleTurn

INSTRUCTIONS = (
    "You are in a room of a house and carry out a task there by typing commands. Things and places are called by their "
    "kind and a number, such as mug 2 or cabinet 4. These are the commands:\n"
    "go to <place>\n"
    "open <place>\n"
    "close <place>\n"
    "take <object> from <place>\n"
    "move <object> to <place>\n"
    "clean <object> with <place>\n"
    "heat <object> with <place>\n"
    "cool <object> with <place>\n"
    "use <object>\n"
    "slice <object> with <object>\n"
    "examine <object or place>\n"
    "inventory\n"
    "look\n"
    "You can carry one object at a time. A command that can't be carried out is answered with 'Nothing happens.'"
)

VERBS = (
    "go to", "open", "close", "take", "move", "put", "clean", "heat", "cool", "use", "slice", "examine", "inventory",
    "look", "help",
)  # fmt: skip

STATE_KEYS = ("goal", "locations visited", "current location", "current inventory")

PLACEHOLDERS = ("{object}", "{container}", "{location}")


@cache
def read_examples() -> dict[str, tuple[Example, ...]]:
    """Return the worked examples of each category."""
    content = json.loads(files("distillery_alfworld").joinpath("examples.json").read_text())
    return {
        category: tuple(
            Example(example["opening"], tuple(ExampleTurn(**turn) for turn in example["turns"])) for example in played
        )
        for category, played in content.items()
    }
