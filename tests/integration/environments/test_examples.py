"""The worked examples are what the engine answers."""

from __future__ import annotations

import json
from importlib.resources import files
from typing import Any

import pytest

from distillery_alfworld import game_generator
from distillery_alfworld.engine import Game
from distillery_alfworld.environment import ALFWorldSession

PLAYED: dict[str, list[dict[str, Any]]] = json.loads(files("distillery_alfworld").joinpath("examples.json").read_text())


@pytest.mark.parametrize("category", sorted(PLAYED))
def test_examples_succeed_when_they_are_played_again(category: str) -> None:
    for example in PLAYED[category]:
        content = json.loads(game_generator.make_game(*example["game"]).files["game.tw-pddl"])
        session = ALFWorldSession(Game(content))
        assert session.reset().text == example["opening"]
        observations = [session.step(turn["action"]) for turn in example["turns"]]
        assert [observation.text for observation in observations] == [turn["observation"] for turn in example["turns"]]
        assert observations[-1].success
        session.close()
