"""The data of the ``alfworld`` wheel for making games: kinds of things, real room layouts, goals, domain and grammar.

Sets of the wheel are sorted here, for their own order changes from process to process. Importing this module imports
``alfworld``; see :func:`.imports.allow_alfworld_import`.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from distillery_alfworld.imports import GENERATOR, allow_alfworld_import, require_versions

require_versions(GENERATOR)
with allow_alfworld_import():
    import alfworld
    from alfworld.gen import constants
    from alfworld.gen.goal_library import gdict

_FOLDER = Path(alfworld.__file__).parent

DOMAIN = (_FOLDER / "data" / "alfred.pddl").read_text()
GRAMMAR = (_FOLDER / "data" / "alfred.twl2").read_text()

RECEPTACLES: list[str] = sorted(constants.RECEPTACLES - set(constants.MOVABLE_RECEPTACLES))
"""The kinds of places. A bowl or a box is a thing in the text games."""

OBJECTS: list[str] = sorted(set(constants.OBJECTS_SET) - set(RECEPTACLES))
"""The kinds of things."""

CONTAINERS: frozenset[str] = frozenset(constants.MOVABLE_RECEPTACLES)
"""The kinds of things that can hold others."""

OPENABLE: frozenset[str] = frozenset(constants.OPENABLE_CLASS_LIST) - CONTAINERS
"""The kinds of places that have a lid or a door."""

HOLDS: dict[str, list[str]] = {
    place: sorted(thing for thing in constants.VAL_RECEPTACLE_OBJECTS.get(place, ()) if not thing.endswith("Sliced"))
    for place in RECEPTACLES
}
"""The kinds of things that each kind of place can hold."""

ABILITIES: dict[str, frozenset[str]] = {
    ability.lower(): frozenset(things) for ability, things in sorted(constants.VAL_ACTION_OBJECTS.items())
}
"""The kinds of things that are ``cleanable``, ``coolable``, ``heatable``, ``sliceable``, ``toggleable``."""

UNSEEN_ROOMS = frozenset({10, 219, 308, 424})
"""The rooms of ALFRED's split valid_unseen."""


def list_rooms(task_type: str) -> list[int]:
    """Return the numbers of the rooms that ALFRED has a type of task in."""
    return [room for kind in sorted(constants.GOALS_VALID[task_type]) for room in constants.SCENE_TYPE[kind]]


def format_goal(task_type: str, **targets: str) -> str:
    """Return the goal of a task in PDDL. It ends the problem, parenthesis included."""
    return gdict[task_type]["pddl"].format(**targets)


def format_sentences(task_type: str, **targets: str) -> list[str]:
    """Return the sentences that can state a task."""
    lower = {target: kind.lower() for target, kind in targets.items()}
    return [template.format(**lower) for template in gdict[task_type]["templates"]]


@cache
def read_kinds(room: int) -> frozenset[str]:
    """Return the kinds of things and places in a room."""
    return frozenset(_read_layout(room, "objects"))


@cache
def read_poses(room: int) -> dict[str, tuple[float, float, float, float]]:
    """Return the places of a room that an agent can stand before: THOR id -> x, z, rotation, horizon."""
    return {place: tuple(pose) for place, pose in sorted(_read_layout(room, "openable").items())}


def _read_layout(room: int, part: str) -> Any:
    return json.loads((_FOLDER / "gen" / "layouts" / f"FloorPlan{room}-{part}.json").read_text())
