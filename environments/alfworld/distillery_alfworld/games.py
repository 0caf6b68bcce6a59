"""The catalog: game files in ALFWorld's own layout.

    <root>/<split>/<task type>-<object>-<movable receptacle>-<receptacle>-<room>/<trial>/game.tw-pddl

``<root>`` is ``json_2.1.1`` in ``$ALFWORLD_DATA`` or, for generated games, in the environment's folder. The
``traj_data.json`` next to a game is for stock ALFWorld's expert and isn't needed.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from distillery.environments.base import Task

CATEGORIES = {
    "pick_and_place_simple": "put",
    "look_at_obj_in_light": "examine",
    "pick_clean_then_place_in_recep": "clean",
    "pick_heat_then_place_in_recep": "heat",
    "pick_cool_then_place_in_recep": "cool",
    "pick_two_obj_and_place": "puttwo",
}
"""ALFWorld's task types, and the categories by which the method's hints are typed."""

LAYOUT = "json_2.1.1"
"""The folder of all splits."""

GAME_FILE = "game.tw-pddl"

_GOAL = re.compile(r'"Your task is to: (.*?)\.?"')


class UnreadableGameError(Exception):
    """A game file isn't a whole game; the message names it."""


def list_splits(root: Path) -> list[str]:
    """Return the splits that have a folder, sorted."""
    return sorted(folder.name for folder in root.iterdir() if folder.is_dir()) if root.is_dir() else []


def read_catalog(root: Path, split: str) -> list[Task]:
    """Return the winnable games of a split, sorted by id; the same ones that stock ALFWorld's loader takes.

    Raises:
        UnreadableGameError: a game file isn't a whole game.
    """
    tasks = []
    for file in find_files(root, split):
        content = read_game(file)
        if content.get("solvable"):
            task_id, category = file.parent.relative_to(root).as_posix(), CATEGORIES[_read_task_type(file)]
            tasks.append(Task(id=task_id, split=split, category=category, goal=_read_goal(file, content["grammar"])))
    return tasks


def find_files(root: Path, split: str) -> list[Path]:
    """Return the game files of a split, sorted, without those that stock ALFWorld's loader excludes by name."""
    matches = sorted((root / split).glob(f"*/*/{GAME_FILE}"))
    unwanted = ("movable", "Sliced")
    return [
        f for f in matches if _read_task_type(f) in CATEGORIES and not any(word in f.parts[-3] for word in unwanted)
    ]


def read_game(file: Path) -> dict[str, Any]:
    """Read a game file. Raises :class:`UnreadableGameError`."""
    try:
        content = json.loads(file.read_bytes())
    except (OSError, ValueError) as error:
        raise UnreadableGameError(f"the game {file} can't be read: {error}") from error
    for part in ("pddl_domain", "pddl_problem", "grammar"):
        if not isinstance(content, dict) or not isinstance(content.get(part), str):
            raise UnreadableGameError(f"the game {file} has no {part}")
    return content


def read_thing(task_id: str) -> str:
    """Return the kind of thing that a game asks for, in lower case; empty if its id has another layout."""
    parts = task_id.split("/")
    names = parts[-2].split("-") if len(parts) >= 2 else []
    return names[1].lower() if len(names) == 5 else ""


def _read_task_type(file: Path) -> str:
    return file.parts[-3].partition("-")[0]


def _read_goal(file: Path, grammar: str) -> str:
    sentence = _GOAL.search(grammar)
    if not sentence:
        raise UnreadableGameError(f'the grammar of the game {file} has no "Your task is to: ..."')
    return sentence[1]
