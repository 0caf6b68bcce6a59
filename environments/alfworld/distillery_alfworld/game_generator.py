"""The generator of one game: a room, a task that it can serve, things scattered as they usually lie, a plan that wins.

Everything is drawn from (seed, split, index), so that games can be made in any order and in any process.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import random
from dataclasses import dataclass

from distillery_alfworld import alfworld_assets, preferences
from distillery_alfworld.engine import Game
from distillery_alfworld.games import CATEGORIES, GAME_FILE
from distillery_alfworld.grammar import TASK_PLACEHOLDER
from distillery_alfworld.layouts import Place, Room, build_room, draw_id
from distillery_alfworld.pddl_writer import mangle, write_problem

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


def make_game(seed: int, split: str, index: int) -> GeneratedGame:
    """Make one game. The six task types take turns. The same arguments give the same bytes."""
    task_type = list(CATEGORIES)[index % len(CATEGORIES)]
    for attempt in itertools.count():
        rng = random.Random(f"{seed} {split} {index} {attempt}")  # noqa: S311 (no secret)
        task = _choose_task(task_type, split, rng)
        if task is None:
            continue
        placed = _scatter(task, rng)
        trial = f"trial_{seed}_{index:05d}"
        content = _build_content(task, trial, placed, rng)
        if walkthrough := _find_walkthrough(content, task, placed):
            content |= {"solvable": True, "walkthrough": walkthrough}
            files = {
                GAME_FILE: json.dumps(content),
                "traj_data.json": json.dumps(_build_trajectory(task, trial), indent=1),
            }
            return GeneratedGame(f"{task.folder}/{trial}", files)
    raise AssertionError("itertools.count() never ends")


def _choose_task(task_type: str, split: str, rng: random.Random) -> TaskChoice | None:
    """Choose a task of a room of the split; None where the room that was drawn has none."""
    unseen = split == "valid_unseen"
    numbers = alfworld_assets.list_rooms(task_type)
    place = build_room(rng.choice([n for n in numbers if (n in alfworld_assets.UNSEEN_ROOMS) == unseen]))
    tasks = [task for task in _list_tasks(task_type, place) if unseen or _is_held_out(task) == (split == "valid_seen")]
    return rng.choice(tasks) if tasks else None


def _list_tasks(task_type: str, place: Room) -> list[TaskChoice]:
    """Return the tasks of a type that a room can serve. The thing must have another place than its goal to lie in."""
    things = [thing for thing in place.things if thing not in alfworld_assets.ABILITIES["toggleable"]]
    if task_type == "look_at_obj_in_light":
        return [TaskChoice(task_type, place, thing, "") for thing in things] if _find_lamp_stands(place) else []
    kinds = {furniture.kind for furniture in place.places}
    if task_type in _APPLIANCES:
        how, appliance = _APPLIANCES[task_type]
        things = [thing for thing in things if thing in alfworld_assets.ABILITIES[f"{how}able"] and appliance in kinds]
        kinds -= {appliance}
    return [
        TaskChoice(task_type, place, thing, kind)
        for thing in things
        for kind in sorted(kinds)
        if thing in alfworld_assets.HOLDS[kind] and any(holder.kind != kind for holder in place.find_holders(thing))
    ]


def _is_held_out(task: TaskChoice) -> bool:
    """Return whether a task of a seen room is in valid_seen. By its hash, so that train and valid_seen share none."""
    return hashlib.sha256(task.folder.encode()).digest()[0] < _SEEN_SHARE


def _find_lamp_stands(place: Room) -> list[Place]:
    """Return the places where the room's lamp can stand; none if it has no lamp."""
    has_lamp = _LAMP in alfworld_assets.read_kinds(place.number)
    return [furniture for furniture in place.places if furniture.kind in _LAMP_STANDS and has_lamp]


def _scatter(task: TaskChoice, rng: random.Random) -> dict[str, tuple[str, Place]]:
    """Lay things around: id -> kind and place."""
    placed: dict[str, tuple[str, Place]] = {}

    def put(kind: str, places: list[Place]) -> None:
        thing = draw_id(kind, rng)
        while thing in placed:
            thing = draw_id(kind, rng)
        placed[thing] = (kind, preferences.choose_place(kind, places, rng))

    for thing in task.room.things:
        holders = task.room.find_holders(thing)
        (count,) = rng.choices(_COUNTS, _COUNT_WEIGHTS)
        if thing == task.thing:
            holders = [place for place in holders if place.kind != task.goal_place]
            count = max(count, 2) if task.type == "pick_two_obj_and_place" else count
        elif thing in alfworld_assets.ABILITIES["toggleable"] or rng.random() > _PRESENCE:
            continue
        for _ in range(count):
            put(thing, holders)
    if stands := _find_lamp_stands(task.room):
        put(_LAMP, stands)
    return placed


def _build_content(
    task: TaskChoice, trial: str, placed: dict[str, tuple[str, Place]], rng: random.Random
) -> dict[str, object]:
    """Return the content of the game file, without the walkthrough."""
    targets = {"obj": task.thing, "recep": task.goal_place, "toggle": _LAMP}
    sentence = rng.choice(alfworld_assets.format_sentences(task.type, **targets))
    return {
        "pddl_domain": alfworld_assets.DOMAIN,
        "grammar": alfworld_assets.GRAMMAR.replace(TASK_PLACEHOLDER, sentence),
        "pddl_problem": write_problem(trial, task.room, placed, alfworld_assets.format_goal(task.type, **targets)),
    }


def _build_trajectory(task: TaskChoice, trial: str) -> dict[str, object]:
    """Return the content that stock ALFWorld's loader and its expert read."""
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


def _find_walkthrough(content: dict[str, object], task: TaskChoice, placed: dict[str, tuple[str, Place]]) -> list[str]:
    """Return commands that win the game, tried in the engine; none if it is won at once or not by them."""
    game = Game(content)
    try:
        turn = game.reset()
        won_at_once = turn.won
        names = {thor_id: game.names[mangle(thor_id).lower()] for thor_id in _list_ids(task, placed)}
        walkthrough: list[str] = []
        for command in _plan_commands(task, placed, names):
            if command in turn.commands:  # no need to go where one is, or to open what is open
                walkthrough.append(command)
                turn = game.step(command)
        return walkthrough if turn.won and not won_at_once else []
    finally:
        game.close()


def _list_ids(task: TaskChoice, placed: dict[str, tuple[str, Place]]) -> list[str]:
    return [*placed, *(place.id for place in task.room.places)]


def _plan_commands(task: TaskChoice, placed: dict[str, tuple[str, Place]], names: dict[str, str]) -> list[str]:
    """Return the commands of a player who knows where everything is."""
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
            commands.append(f"{how} {names[thing]} with {visit(task.room.find_places(appliance)[0])}")
        if task.goal_place:
            commands.append(f"move {names[thing]} to {visit(task.room.find_places(task.goal_place)[0])}")
        else:
            lamp = next(thing for thing, (kind, _) in placed.items() if kind == _LAMP)
            visit(placed[lamp][1])
            commands.append(f"use {names[lamp]}")
    return commands
