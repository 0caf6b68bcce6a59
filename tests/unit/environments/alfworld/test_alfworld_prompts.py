"""The worked examples are whole, and say what they show."""

from __future__ import annotations

from pathlib import Path

import pytest

from distillery.environments.base import Environment
from distillery_alfworld import prompts
from distillery_alfworld.environment import ALFWorld
from distillery_alfworld.games import CATEGORIES


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return ALFWorld({"games": "generated"}, tmp_path)


@pytest.mark.parametrize("category", sorted(CATEGORIES.values()))
def test_category_has_two_examples_that_begin_as_games_do(environment: Environment, category: str) -> None:
    examples = environment.examples(category)
    assert len(examples) == 2
    for example in examples:
        assert example.opening.startswith("You are in the middle of a room.")
        assert example.opening.count("\nYour task is to: ") == 1
        assert example.turns[0].thought


def test_unknown_category_has_no_examples(environment: Environment) -> None:
    assert environment.examples("dance") == ()


def test_states_of_examples_follow_from_their_commands() -> None:
    for example in (example for examples in prompts.read_examples().values() for example in examples):
        visited: list[str] = []
        carried = ""
        for turn in example.turns:
            assert set(turn.state) <= set(prompts.STATE_KEYS)
            assert turn.state["goal"] in example.opening
            assert turn.state.get("locations visited", "") == ", ".join(dict.fromkeys(visited))
            assert turn.state.get("current location", "") == (visited[-1] if visited else "")
            assert turn.state.get("current inventory", "") == carried
            if turn.action.startswith("go to "):
                visited.append(turn.action.removeprefix("go to "))
            elif turn.action.startswith("take "):
                carried = turn.action.removeprefix("take ").partition(" from ")[0]
            elif turn.action.startswith("move "):
                carried = ""


def test_commands_of_examples_begin_with_a_verb() -> None:
    for example in (example for examples in prompts.read_examples().values() for example in examples):
        for turn in example.turns:
            assert turn.action.startswith(prompts.VERBS)
