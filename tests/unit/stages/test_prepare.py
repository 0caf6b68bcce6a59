"""The pinning of tasks, also of an environment whose catalog is wrong."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from distillery.core.api import parse
from distillery.environments.base import Report, Task
from distillery.stages.runtime.failures import StageFailure
from distillery.stages.runtime.pinning import Pinned, find_fresh, make_tasks, pin
from tests.fakes.agents import FakeEnvironment, task
from tests.unit.documents import document


class FakeCatalog(FakeEnvironment):
    """Has the tasks that a test gives it."""

    tasks: Sequence[Any] = ()

    def catalog(self, split: str) -> Sequence[Task]:
        return self.tasks


def having(tasks: Sequence[Any]) -> FakeCatalog:
    environment = FakeCatalog()
    environment.tasks = tasks
    return environment


SPEC = parse(document(environment={"tasks": {"train": 2, "evaluate": 2, "evaluateSplit": "train"}})).spec
GOOD = [task(number) for number in range(4)]


def test_pin_puts_each_task_into_one_list():
    pinned = pin(having(GOOD), SPEC)
    assert sorted(task.id for tasks in pinned.tasks.values() for task in tasks) == [task.id for task in GOOD]
    assert pinned.left_out == {"train": 0, "evaluate": 0}


def named(split: str, *goals: str) -> list[Task]:
    return [Task(f"{split}/{number}", split, "", goal) for number, goal in enumerate(goals)]


class FakeSplits(FakeCatalog):
    """Tasks that are known by their goals, in the splits train and test."""

    goal_is_task = True

    def catalog(self, split: str) -> Sequence[Task]:
        return [task for task in self.tasks if task.split == split]


def pinned_of(train: list[str], test: list[str], *, numbers: tuple[int, int], before: Pinned | None = None) -> Pinned:
    environment = FakeSplits()
    environment.tasks = [*named("train", *train), *named("test", *test)]
    tasks = {"train": numbers[0], "evaluate": numbers[1], "evaluateSplit": "test"}
    return pin(environment, parse(document(environment={"tasks": tasks})).spec, before)


def test_no_held_out_task_is_learned_from_when_goals_are_the_same():
    pinned = pinned_of(["a", "b", " c\n d ", "e", "f"], ["c d", "b", "x"], numbers=(3, 3))
    assert {task.goal for task in pinned.tasks["train"]} == {"a", "e", "f"}
    assert pinned.left_out["train"] <= 2


def test_held_out_task_is_evaluated_once_when_it_has_two_ids():
    pinned = pinned_of(["a", "b"], ["x", "x", "y", "z"], numbers=(2, 3))
    assert sorted(task.goal for task in pinned.tasks["evaluate"]) == ["x", "y", "z"]


def test_fewer_tasks_are_learned_from_when_some_are_held_out():
    pinned = pinned_of(["a", "b", "c"], ["c", "x"], numbers=(3, 2))
    assert (len(pinned.tasks["train"]), pinned.left_out["train"]) == (2, 1)


def test_pin_keeps_all_tasks_when_the_number_of_held_out_tasks_grows():
    before = pinned_of(["a", "b", "c", "d"], ["x", "y"], numbers=(3, 2))
    learned = [task.goal for task in before.tasks["train"]]
    # the split grew, was put in another order, and has one of the training tasks, and one of its own, again
    after = pinned_of(["a", "b", "c", "d"], ["x", "y", "z", learned[0], "v", "y", "w"], numbers=(3, 5), before=before)
    assert after.tasks["train"] == before.tasks["train"]
    assert after.tasks["evaluate"][:2] == before.tasks["evaluate"]
    assert sorted(task.goal for task in after.tasks["evaluate"][2:]) == ["v", "w", "z"]


def test_pinning_fails_when_there_are_no_more_held_out_tasks():
    before = pinned_of(["a"], ["x", "y"], numbers=(1, 2))
    with pytest.raises(StageFailure, match=r"tasks\.evaluate: 3: "):
        pinned_of(["a"], ["x", "y", "y"], numbers=(1, 3), before=before)
    with pytest.raises(StageFailure, match="no longer has 1 tasks of this run, such as 'test/1'"):
        pinned_of(["a"], ["x"], numbers=(1, 1), before=before)


@pytest.mark.parametrize(
    ("train", "test", "message"),
    [
        (
            ["a", "b", "c", "d"],
            ["b", "c", "d", "x"],
            r"tasks\.train: 4: .* only 1 are no held-out tasks under other ids",
        ),
        (["a", "b", "c", "d"], ["x", "x", "x", "x"], r"tasks\.evaluate: 4: .* only 1 are different"),
    ],
)
def test_pinning_fails_when_too_few_tasks_are_left(train: list[str], test: list[str], message: str):
    with pytest.raises(StageFailure, match=message):
        pinned_of(train, test, numbers=(4, 4))


@pytest.mark.parametrize(
    ("wrong", "message"),
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
def test_pin_fails_when_a_catalog_has_an_invalid_task(wrong: Any, message: str):
    with pytest.raises(StageFailure, match=f"the split train of made up.*{message}"):
        pin(having([*GOOD, wrong]), SPEC)


def test_first_round_learns_from_the_tasks_that_arrive_with_it():
    environment = FakeSplits()
    environment.tasks = [task(number, category="put" if number % 3 else "cool") for number in range(9)]
    environment.tasks += named("test", "a", "b")
    spec = {"environment": {"tasks": {"train": 3, "evaluate": 2, "evaluateSplit": "test"}}}
    rounds = {"maxRounds": 2, "arrivals": [["cool"], ["put"]]}
    pinned = pin(environment, parse(document(**spec, rounds=rounds)).spec)
    assert {one.category for one in pinned.tasks["train"]} == {"cool"}
    spec["environment"]["tasks"]["train"] = 4
    with pytest.raises(StageFailure, match=r"3 tasks left .* with a label of spec.rounds.arrivals\[0\] \(cool\)"):
        pin(environment, parse(document(**spec, rounds=rounds)).spec)


def test_held_out_tasks_that_are_added_were_not_learned_from():
    before = pinned_of(["a", "b"], ["c", "d", "e", "f"], numbers=(2, 2))
    environment = FakeSplits()
    environment.tasks = [*named("train", "a", "b"), *named("test", "c", "d", "e", "f")]
    learned = {one.id for one in named("test", "c", "d", "e", "f")} - {one.id for one in before.tasks["evaluate"]}
    spec = parse(document(environment={"tasks": {"train": 2, "evaluate": 3, "evaluateSplit": "test"}})).spec
    with pytest.raises(StageFailure, match="no held-out tasks beyond the 2"):
        pin(environment, spec, before, used=learned)


def test_fresh_tasks_are_distinct_and_none_of_those_that_were_used():
    environment = FakeSplits()
    environment.tasks = named("test", "a", "b", "b", "c", "d")
    fresh = find_fresh(environment, "test", without=named("train", "a"), used=["test/4"])
    assert [one.goal for one in fresh] == ["b", "c"]


class FakeMaker(FakeCatalog):
    """Makes tasks, every fourth of which is of the wanted kind; up to a limit."""

    limit = 1_000

    def prepare(self, wanted: Mapping[str, int], *, report: Report = lambda done, total: None) -> None:
        self.tasks = [task(number) for number in range(min(self.limit, wanted["train"]))]


@pytest.mark.parametrize(("limit", "found"), [(1_000, 20), (30, 8)])
def test_tasks_are_made_until_enough_are_of_the_kind(limit: int, found: int):
    environment = FakeMaker()
    environment.limit = limit

    def find() -> int:
        return len(environment.tasks[::4])

    make_tasks(environment, {"train": 20}, find=find, number=20, report=lambda done, total: None)
    assert found <= find() <= 2 * found
