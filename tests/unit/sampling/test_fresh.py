"""The default sampler: new tasks first, and a share of those that were failed."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
import yaml

from distillery.core.api import parse
from distillery.core.planner.plays import Strategies
from distillery.environments.base import Task
from distillery.sampling.base import Candidates, TaskHistory
from distillery.sampling.fresh import Fresh
from tests.paths import ROOT
from tests.unit.documents import document


def task(name: str) -> Task:
    return Task(name, "train", "put", f"put {name}")


def history(name: str, *, solved: bool) -> TaskHistory:
    return TaskHistory(task(name), 1, 2, int(solved), solved)


PLAYED = [history("lost-1", solved=False), history("won", solved=True), history("lost-2", solved=False)]


def choose(number: int, new: Sequence[str], *, share: float = 0.5, played: Sequence[TaskHistory] = PLAYED) -> list[str]:
    sampler = Fresh(parse(document(rounds={"maxRounds": 2, "failureShare": share})).spec)
    return [one.id for one in sampler.choose(number, Candidates([task(name) for name in new], played))]


@pytest.mark.parametrize(
    ("share", "expected"),
    [
        (0.0, ["a", "b", "c", "d"]),
        (0.25, ["lost-1", "a", "b", "c"]),
        (0.5, ["lost-1", "lost-2", "a", "b"]),
        (1.0, ["lost-1", "lost-2", "a", "b"]),
    ],
)
def test_share_of_failed_tasks_is_played_again(share: float, expected: list[str]):
    assert choose(4, ["a", "b", "c", "d", "e"], share=share) == expected


def test_failed_tasks_fill_the_round_when_new_ones_run_out():
    assert choose(4, ["a"], share=0.25) == ["lost-1", "a", "lost-2", "won"]


def test_round_is_smaller_when_there_are_no_more_tasks():
    assert choose(9, ["a"]) == ["lost-1", "lost-2", "a", "won"]


@pytest.mark.parametrize(("share", "wanted"), [(0.0, 4), (0.25, 3), (1.0, 2)])
def test_sampler_wants_new_tasks_for_all_other_places(share: float, wanted: int):
    sampler = Fresh(parse(document(rounds={"maxRounds": 2, "failureShare": share})).spec)
    assert sampler.count_new(4, PLAYED) == wanted


def test_sampler_of_the_guide_returns_to_every_failed_task():
    guide = (ROOT / "docs" / "guides" / "strategies.md").read_text()
    names: dict[str, Any] = {}
    exec(re.findall(r"```python\n(.*?)```", guide, re.DOTALL)[0], names)
    sampler = names["FailuresFirst"](parse(document(rounds={"maxRounds": 2})).spec)
    chosen = sampler.choose(3, Candidates([task("a"), task("b")], PLAYED))
    assert [one.id for one in chosen] == ["lost-1", "lost-2", "a"]


def test_run_of_the_guide_has_the_plays_and_students_that_it_adds():
    guide = (ROOT / "docs" / "guides" / "strategies.md").read_text()
    added = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", guide, re.DOTALL)[0])["spec"]
    strategies = Strategies.of(parse(document(**added)).spec)
    assert strategies.learning_arms == ("own", "teacher", "mismatched-teacher")
    assert strategies.retriever_of("mismatched-teacher") == "mismatched"
