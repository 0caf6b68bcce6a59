"""What a candidate lost against the baseline, and when that is too much."""

from __future__ import annotations

from typing import Any

import pytest

from distillery.evaluation.arms import ArmResults
from distillery.evaluation.forgetting import Losses, find_forgetting, find_losses
from distillery.evaluation.power import loss_bound, tasks_to_show_losses


def arm(solved: dict[str, list[bool]]) -> ArmResults:
    """An arm with the results of tasks; the category is what the task's name begins with."""
    rows: list[dict[str, Any]] = [
        {"task_id": task, "category": task.partition("-")[0], "success": success}
        for task, results in solved.items()
        for success in results
    ]
    return ArmResults(rows)


def losses(lost: dict[str, int], tasks: int = 100) -> Losses:
    """So many tasks of each category, of which so many were lost."""
    names = tuple(f"{category}-{number}" for category, count in lost.items() for number in range(count))
    return Losses(names, dict.fromkeys(lost, tasks), lost)


def test_task_is_lost_when_the_candidate_solves_it_less_often():
    before = {"put-1": [True, True], "put-2": [True, False], "cool-1": [False, False], "cool-2": [True, True]}
    after = {"put-1": [True, False], "put-2": [True, True], "cool-1": [False, False], "cool-2": [True, True]}
    found = find_losses(arm(after), arm(before))
    assert found.lost == ("put-1",)
    assert (found.tasks, found.of_category) == ({"put": 2, "cool": 2}, {"put": 1, "cool": 0})


def test_few_losses_of_many_tasks_are_accepted():
    assert find_forgetting(losses({"put": 2, "cool": 1}), limit=0.05, confidence=0.95) == ""


def test_losses_that_may_be_too_many_are_named():
    reason = find_forgetting(losses({"put": 4, "cool": 4}), limit=0.05, confidence=0.95)
    assert reason.startswith("It lost 8 of 200 tasks, which may be up to 7.1 points")


def test_category_is_to_blame_when_its_losses_are_shown_to_be_too_many():
    reason = find_forgetting(losses({"put": 0, "cool": 20, "heat": 1}), limit=0.1, confidence=0.95)
    assert "20 of 100 tasks of the category 'cool'" in reason


def test_category_of_few_tasks_is_not_to_blame_without_proof():
    found = Losses(("cool-0",), {"put": 400, "cool": 4}, {"put": 0, "cool": 1})
    assert find_forgetting(found, limit=0.05, confidence=0.95) == ""


@pytest.mark.parametrize(("lost", "tasks", "bound"), [(0, 59, 0.0495), (0, 58, 0.0503), (8, 200, 0.0710)])
def test_bound_is_that_of_clopper_and_pearson(lost: int, tasks: int, bound: float):
    assert loss_bound(lost, tasks, confidence=0.95) == pytest.approx(bound, abs=1e-4)


def test_needed_tasks_show_losses_below_the_limit():
    needed = tasks_to_show_losses(0.1, confidence=0.95)
    assert needed is not None
    assert 150 < needed < 300
    assert tasks_to_show_losses(0.05, confidence=0.95) is None
    more, fewer = tasks_to_show_losses(0.08, confidence=0.95), tasks_to_show_losses(0.2, confidence=0.95)
    assert fewer is not None
    assert more is not None
    assert fewer < needed < more
