"""Pinning tasks, also those of an environment that gets its catalogue wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from distillery.api import parse
from distillery.environments.base import Task
from distillery.stages.prepare import pin
from distillery.stages.runner import StageFailure
from tests.unit.documents import document
from tests.unit.fakes import FakeEnvironment, task


class FakeCatalogue(FakeEnvironment):
    """Has the tasks that a test gives it."""

    tasks: Sequence[Any] = ()

    def catalogue(self, split: str) -> Sequence[Task]:
        return self.tasks


def having(tasks: Sequence[Any]) -> FakeCatalogue:
    environment = FakeCatalogue()
    environment.tasks = tasks
    return environment


SPEC = parse(document(environment={"tasks": {"train": 2, "evaluate": 2, "evaluateSplit": "train"}})).spec
GOOD = [task(number) for number in range(4)]


def test_tasks_are_learnt_from_or_judged_on():
    pinned = pin(having(GOOD), SPEC)
    assert sorted(task.id for tasks in pinned.values() for task in tasks) == [task.id for task in GOOD]


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ("train/9", "'train/9' stands where a Task should"),
        (GOOD[0], f"two tasks with the id '{GOOD[0].id}'"),
        (Task("", "train", "put", "a"), "empty id"),
        (Task("a", "train", "put", b"goal"), "task's goal is b'goal', not a str"),  # type: ignore[arg-type]
        (Task("a", "train", "put", "a\0b"), "task's goal holds a NUL character"),
        (Task("a\ud800", "train", "put", "a"), "task's id is no Unicode text"),
        (Task("a", "train", None, "a"), "task's category is None"),  # type: ignore[arg-type]
    ],
)
def test_a_task_that_is_none_is_told(wrong: Any, told: str):
    with pytest.raises(StageFailure, match=f"the split train of made up.*{told}"):
        pin(having([*GOOD, wrong]), SPEC)
