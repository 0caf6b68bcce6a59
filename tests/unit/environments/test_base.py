"""What an environment gets that derives from the protocol and says only what it must."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pytest

from distillery.environments.base import Environment, EnvironmentConfigurationError, Session, Task


class FakeLeast(Environment):
    """No more than the protocol asks for."""

    name: ClassVar[str] = "least"
    instructions = "Do it."

    def catalog(self, split: str) -> Sequence[Task]:
        return [Task("1", split, "", "do it")]

    def open(self, task: Task) -> Session:
        raise NotImplementedError


def test_environment_has_defaults_for_optional_members() -> None:
    environment = FakeLeast({}, Path())
    environment.prepare({"train": 1})
    assert (environment.source, environment.verbs, environment.thoughts) == ("least", (), True)
    assert (environment.examples("any"), environment.read("opening", [("go", "gone")])) == ((), [])


def test_options_are_refused_when_the_environment_has_none() -> None:
    with pytest.raises(EnvironmentConfigurationError, match=r"least .*leave out games, seed"):
        FakeLeast({"games": 1, "seed": 2}, Path())


def test_tasks_and_sessions_have_no_default() -> None:
    incomplete: Any = type("Incomplete", (Environment,), {"name": "incomplete", "instructions": ""})
    with pytest.raises(TypeError, match=r"abstract methods.* catalog.* open"):
        incomplete({}, Path())
