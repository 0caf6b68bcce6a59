"""ALFWorld as the stages use it: catalog, pool, sessions, facts."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from distillery.environments.base import Task
from distillery.environments.pool.pool import EnvironmentConfig, EnvironmentPool
from distillery_alfworld.environment import ALFWorld
from distillery_alfworld.games import CATEGORIES, read_game

OPTIONS = {"games": "generated", "seed": 1}


def walkthrough_of(root: Path, task: Task) -> list[str]:
    return read_game(root / "json_2.1.1" / task.id / "game.tw-pddl")["walkthrough"]


async def test_pool_wins_a_task_of_every_category(generated: Path) -> None:
    tasks = ALFWorld(OPTIONS, generated).catalog("valid_unseen")
    assert {task.category for task in tasks} == set(CATEGORIES.values())
    async with EnvironmentPool(
        EnvironmentConfig("alfworld", OPTIONS, generated), processes=2, step_timeout=120
    ) as pool:
        for task in tasks:
            session, observation = await pool.open(task)
            room, sentence = observation.text.split("\n")
            assert room.startswith("You are in the middle of a room. Looking quickly around you, you see ")
            assert sentence == f"Your task is to: {task.goal}."
            for command in walkthrough_of(generated, task):
                assert (observation.score, observation.done, observation.success) == (0.0, False, False)
                assert command in observation.admissible
                observation = await session.step(re.sub("^move (.*) to ", r"put \1 in/on ", command))
                assert observation.valid
            assert (observation.score, observation.done, observation.success) == (1.0, True, True)
            await session.close()


async def test_game_continues_when_its_process_is_killed(generated: Path) -> None:
    task = ALFWorld(OPTIONS, generated).catalog("train")[0]
    commands = walkthrough_of(generated, task)
    async with EnvironmentPool(
        EnvironmentConfig("alfworld", OPTIONS, generated), processes=1, step_timeout=120
    ) as pool:
        session, _ = await pool.open(task)
        for command in commands[:-1]:
            await session.step(command)
        process = await pool._slots[0].get_process()
        process._process.kill()
        await process._reading
        assert (await session.step(commands[-1])).success


async def test_observation_is_invalid_when_the_command_is_refused(generated: Path) -> None:
    task = ALFWorld(OPTIONS, generated).catalog("train")[0]
    session = ALFWorld(OPTIONS, generated).open(task)
    session.reset()
    observation = session.step("dance")
    assert (observation.text, observation.valid) == ("Nothing happens.", False)
    session.close()


def test_facts_agree_with_the_won_episode(generated: Path) -> None:
    environment = ALFWorld(OPTIONS, generated)
    task = next(task for task in environment.catalog("train") if task.category == "clean")
    session = environment.open(task)
    opening = session.reset().text
    turns = [(command, session.step(command).text) for command in walkthrough_of(generated, task)]
    session.close()
    facts = environment.read(opening, turns)
    assert not [fact for fact in facts if fact.kind == "refused"]
    (cleaned,) = [fact for fact in facts if fact.thing == "clean"]
    assert cleaned.conditions >= {"holding something", "at the target", "target was seen"}
    sought = next(command for command, _ in turns if command.startswith("take "))
    thing, place = sought.split()[1], sought.split()[4]
    assert any((fact.kind, fact.thing, fact.place) == ("found", thing, place) for fact in facts)


def test_catalog_has_the_games_of_stock_alfworld(real_data: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALFWORLD_DATA", str(real_data))
    environment = ALFWorld({"games": "alfworld"}, Path())
    assert [len(environment.catalog(split)) for split in ("train", "valid_seen")] == [3553, 140]
