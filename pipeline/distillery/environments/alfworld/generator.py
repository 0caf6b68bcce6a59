"""The generator of one game: a room, a task that it can serve, things scattered as they usually lie, a plan that wins.

Everything is drawn from (seed, split, index), so that games can be made in any order and in any process.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from dataclasses import dataclass

from distillery.environments.alfworld import preferences, wheel
from distillery.environments.alfworld.engine import Game
from distillery.environments.alfworld.games import CATEGORIES, GAME_FILE
from distillery.environments.alfworld.grammar import TASK_PLACEHOLDER
from distillery.environments.alfworld.problem import mangle, problem
from distillery.environments.alfworld.rooms import Place, Room, new_id, room

_APPLIANCES = {
    "pick_clean_then_place_in_recep": ("clean", "SinkBasin"),
    "pick_heat_then_place_in_recep": ("heat", "Microwave"),
    "pick_cool_then_place_in_recep": ("cool", "Fridge"),
}
"""The task types that change a thing: how, and with which place."""

_LAMP = "DeskLamp"
_LAMP_STANDS = ("Desk", "DiningTable", "Dresser", "Shelf", "SideTable")
_SEEN_SHARE = 32  # of 256 tasks are held out of train for valid_seen
_COUNTS = (1, 2, 3)
_COUNT_WEIGHTS = (3, 4, 3)
_PRESENCE = 0.85
"""Which share of the kinds that a room can have lies around in a game; with the counts, 32 things on average."""


@dataclass(frozen=True, slots=True)
class TaskChoice:
    """The task of a game: ``goal_place`` is empty for looking at a thing under the lamp."""

    type: str
    room: Room
    thing: str
    goal_place: str

    @property
    def folder(self) -> str:
        """The folder of its games, named as ALFRED names them."""
        return f"{self.type}-{self.thing}-None-{self.goal_place or _LAMP}-{self.room.number}"


@dataclass(frozen=True, slots=True)
class GeneratedGame:
    """A game to be written: its folder below the split's, and the files in there."""

    folder: str
    files: dict[str, str]


def make(seed: int, split: str, index: int) -> GeneratedGame:
    """Make one game. The six task types take turns. The same arguments give the same bytes."""
    task_type = list(CATEGORIES)[index % len(CATEGORIES)]
    for attempt in itertools.count():
        rng = random.Random(f"{seed} {split} {index} {attempt}")  # noqa: S311 (no secret)
        task = _choose_task(task_type, split, rng)
        if task is None:
            continue
        placed = _scatter(task, rng)
        trial = f"trial_{seed}_{index:05d}"
        content = _content(task, trial, placed, rng)
        if walkthrough := _win(content, task, placed):
            content |= {"solvable": True, "walkthrough": walkthrough}
            files = {GAME_FILE: json.dumps(content), "traj_data.json": json.dumps(_trajectory(task, trial), indent=1)}
            return GeneratedGame(f"{task.folder}/{trial}", files)
    raise AssertionError("itertools.count() never ends")


def _choose_task(task_type: str, split: str, rng: random.Random) -> TaskChoice | None:
    """A task of a room of the split; None where the room that was drawn has none."""
    unseen = split == "valid_unseen"
    place = room(rng.choice([number for number in wheel.rooms(task_type) if (number in wheel.UNSEEN_ROOMS) == unseen]))
    tasks = [task for task in _tasks(task_type, place) if unseen or _held_out(task) == (split == "valid_seen")]
    return rng.choice(tasks) if tasks else None


def _tasks(task_type: str, place: Room) -> list[TaskChoice]:
    """The tasks of a type that a room can serve. What is sought must have somewhere else to lie than at its goal."""
    things = [thing for thing in place.things if thing not in wheel.ABILITIES["toggleable"]]
    if task_type == "look_at_obj_in_light":
        return [TaskChoice(task_type, place, thing, "") for thing in things] if _lamp_stands(place) else []
    kinds = {furniture.kind for furniture in place.places}
    if task_type in _APPLIANCES:
        how, appliance = _APPLIANCES[task_type]
        things = [thing for thing in things if thing in wheel.ABILITIES[f"{how}able"] and appliance in kinds]
        kinds -= {appliance}
    return [
        TaskChoice(task_type, place, thing, kind)
        for thing in things
        for kind in sorted(kinds)
        if thing in wheel.HOLDS[kind] and any(holder.kind != kind for holder in place.holders(thing))
    ]


def _held_out(task: TaskChoice) -> bool:
    """Whether a task of a seen room belongs to valid_seen. A hash decides, so that train and valid_seen share none."""
    return hashlib.sha256(task.folder.encode()).digest()[0] < _SEEN_SHARE


def _lamp_stands(place: Room) -> list[Place]:
    """Where the room's lamp can stand, if it has one."""
    has_lamp = _LAMP in wheel.kinds_in(place.number)
    return [furniture for furniture in place.places if furniture.kind in _LAMP_STANDS and has_lamp]


def _scatter(task: TaskChoice, rng: random.Random) -> dict[str, tuple[str, Place]]:
    """Lay things around: id -> kind and place."""
    placed: dict[str, tuple[str, Place]] = {}

    def put(kind: str, places: list[Place]) -> None:
        thing = new_id(kind, rng)
        while thing in placed:
            thing = new_id(kind, rng)
        placed[thing] = (kind, preferences.choose(kind, places, rng))

    for thing in task.room.things:
        holders = task.room.holders(thing)
        (count,) = rng.choices(_COUNTS, _COUNT_WEIGHTS)
        if thing == task.thing:
            holders = [place for place in holders if place.kind != task.goal_place]
            count = max(count, 2) if task.type == "pick_two_obj_and_place" else count
        elif thing in wheel.ABILITIES["toggleable"] or rng.random() > _PRESENCE:
            continue
        for _ in range(count):
            put(thing, holders)
    if stands := _lamp_stands(task.room):
        put(_LAMP, stands)
    return placed


def _content(
    task: TaskChoice, trial: str, placed: dict[str, tuple[str, Place]], rng: random.Random
) -> dict[str, object]:
    """The game file, but for the walkthrough."""
    targets = {"obj": task.thing, "recep": task.goal_place, "toggle": _LAMP}
    sentence = rng.choice(wheel.sentences(task.type, **targets))
    return {
        "pddl_domain": wheel.DOMAIN,
        "grammar": wheel.GRAMMAR.replace(TASK_PLACEHOLDER, sentence),
        "pddl_problem": problem(trial, task.room, placed, wheel.goal(task.type, **targets)),
    }


def _trajectory(task: TaskChoice, trial: str) -> dict[str, object]:
    """What stock ALFWorld's loader and its expert read."""
    looking = not task.goal_place
    return {
        "task_id": trial,
        "task_type": task.type,
        "pddl_params": {
            "object_target": task.thing,
            "parent_target": task.goal_place,
            "mrecep_target": "",
            "toggle_target": _LAMP if looking else "",
            "object_sliced": False,
        },
        "scene": {"floor_plan": f"FloorPlan{task.room.number}", "scene_num": task.room.number},
        "turk_annotations": {"anns": []},
    }


def _win(content: dict[str, object], task: TaskChoice, placed: dict[str, tuple[str, Place]]) -> list[str]:
    """Commands that win the game, tried in the engine; empty where it is won at once or can't be won this way."""
    game = Game(content)
    try:
        turn = game.reset()
        won_at_once = turn.won
        names = {thor_id: game.names[mangle(thor_id).lower()] for thor_id in _ids(task, placed)}
        walkthrough: list[str] = []
        for command in _plan(task, placed, names):
            if command in turn.commands:  # no need to go where one is, or to open what is open
                walkthrough.append(command)
                turn = game.step(command)
        return walkthrough if turn.won and not won_at_once else []
    finally:
        game.close()


def _ids(task: TaskChoice, placed: dict[str, tuple[str, Place]]) -> list[str]:
    return [*placed, *(place.id for place in task.room.places)]


def _plan(task: TaskChoice, placed: dict[str, tuple[str, Place]], names: dict[str, str]) -> list[str]:
    """What a player would do who knows where everything is."""
    commands: list[str] = []

    def visit(place: Place) -> str:
        name = names[place.id]
        commands.extend((f"go to {name}", f"open {name}"))
        return name

    sought = sorted(thing for thing, (kind, _) in placed.items() if kind == task.thing)
    for thing in sought[: 2 if task.type == "pick_two_obj_and_place" else 1]:
        commands.append(f"take {names[thing]} from {visit(placed[thing][1])}")
        if task.type in _APPLIANCES:
            how, appliance = _APPLIANCES[task.type]
            commands.append(f"{how} {names[thing]} with {visit(task.room.of_kind(appliance)[0])}")
        if task.goal_place:
            commands.append(f"move {names[thing]} to {visit(task.room.of_kind(task.goal_place)[0])}")
        else:
            lamp = next(thing for thing, (kind, _) in placed.items() if kind == _LAMP)
            visit(placed[lamp][1])
            commands.append(f"use {names[lamp]}")
    return commands
