"""The pre-training's simulator speaks as the real engine does, on generated games."""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from pretraining.simulator import Goal, Receptacle, Room, Simulator, Thing, kind_of

from distillery_alfworld.engine import Game
from distillery_alfworld.environment import ALFWorld
from distillery_alfworld.games import read_game
from distillery_alfworld.pddl_reader import read_problem

# What a player needs; the simulator knows no others.
SPOKEN = re.compile(r"(go to|open|close|take|move|clean|heat|cool|use) ")


@pytest.fixture(scope="module")
def games(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder = tmp_path_factory.mktemp("simulated")
    ALFWorld({"games": "generated", "seed": 5}, folder).prepare({"train": 12})
    return sorted(folder.glob("json_2.1.1/train/*/*/game.tw-pddl"))


def room_of(path: Path) -> tuple[Room, Game]:
    """A game file as the simulator's room, and as the engine's game."""
    content = read_game(path)
    game, facts = Game(content), read_problem(content["pddl_problem"]).facts
    kind, _, place = path.parts[-3].partition("-")
    sought, _, receptacle, _ = (part.lower() for part in place.rsplit("-", 3))
    names = game.names

    def holds(predicate: str, thing: str) -> bool:
        return (thing,) in facts.get(predicate, set())

    receptacles = tuple(
        Receptacle(names[r], kind_of(names[r]), location, openable=holds("openable", r), opened=holds("opened", r))
        for r, location in sorted(facts["receptacleatlocation"], key=lambda fact: _listed(names[fact[0]]))
    )
    things = tuple(
        Thing(
            names[thing],
            kind_of(names[thing]),
            (names[place],),
            portable=holds("pickupable", thing),
            switchable=holds("toggleable", thing),
            allows=frozenset(p for p in ("clean", "heat", "cool") if holds(f"{p}able", thing)),
        )
        for thing, place in sorted(facts["inreceptacle"], key=lambda fact: _listed(names[fact[0]]))
    )
    fits: dict[str, set[str]] = {}
    for receptacle_type, object_type in facts["cancontain"]:
        fits.setdefault(receptacle_type.removesuffix("type"), set()).add(object_type.removesuffix("type"))
    lamp = receptacle if kind == "look_at_obj_in_light" else ""
    goal = Goal(kind, "", sought, receptacle="" if lamp else receptacle, lamp=lamp)  # type: ignore[arg-type]
    ((_, start),) = facts["atlocation"]
    return Room(goal, receptacles, things, start, {k: frozenset(v) for k, v in fits.items()}), game


def _listed(name: str) -> tuple[str, int]:
    kind, _, number = name.rpartition(" ")
    return kind, -int(number)


def assert_same(path: Path, simulator: Simulator, game: Game, command: str) -> bool:
    """Carry a command out on both; whether the game is won."""
    turn = game.step(command)
    assert simulator.step(command) == turn.text, (path, command)
    assert simulator.won == turn.won
    return turn.won


def test_simulator_plays_a_walkthrough_as_the_engine_does(games: list[Path]):
    for path in games:
        room, game = room_of(path)
        simulator = Simulator(room)
        assert simulator.introduction().splitlines()[0] in game.reset().text
        plan = [command for command in read_game(path)["walkthrough"] if SPOKEN.match(command)]
        assert [assert_same(path, simulator, game, command) for command in plan][-1]
        game.close()


def test_simulator_answers_random_commands_as_the_engine_does(games: list[Path]):
    for seed, path in enumerate(games):
        rng = random.Random(seed)
        room, game = room_of(path)
        simulator, turn = Simulator(room), game.reset()
        for _ in range(25):
            possible = [command for command in turn.commands if SPOKEN.match(command)]
            nonsense = [
                f"go to {room.receptacles[0].name}",
                "open shelf 99",
                f"take {room.things[0].name} from shelf 1",
            ]
            command = rng.choice(possible if possible and rng.random() < 0.8 else nonsense)
            if assert_same(path, simulator, game, command):
                break
            turn = game.step("inventory")
            assert simulator.step("inventory") == turn.text
        game.close()
