"""The worked examples are what the engine answers."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from distillery.environments.alfworld import generator
from distillery.environments.alfworld.engine import Game
from distillery.environments.alfworld.environment import ALFWorldSession

PLAYED: dict[str, list[dict[str, Any]]] = json.loads(
    files("distillery.environments.alfworld").joinpath("examples.json").read_text()
)


@pytest.mark.parametrize("category", sorted(PLAYED))
def test_the_examples_of_a_category_can_be_played_again_and_succeed(category: str) -> None:
    for example in PLAYED[category]:
        content = json.loads(generator.make(*example["game"]).files["game.tw-pddl"])
        session = ALFWorldSession(Game(content))
        assert session.reset().text == example["opening"]
        observations = [session.step(turn["action"]) for turn in example["turns"]]
        assert [observation.text for observation in observations] == [turn["observation"] for turn in example["turns"]]
        assert observations[-1].success
        session.close()
