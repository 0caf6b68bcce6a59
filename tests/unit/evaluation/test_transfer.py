"""Success by round and group of tasks: what was lost, what was gained, and how surely."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from distillery.evaluation.transfer import Transfer, measure_transfer

TASKS = 100


def results(*rates: float) -> dict[str, float]:
    """The results of a model that solves a share of each group's tasks."""
    return {
        f"{group}-{number}": float(number < rate * TASKS) for group, rate in enumerate(rates) for number in range(TASKS)
    }


def measure(base: Sequence[float], *rows: Sequence[float]) -> Transfer:
    group_of = {task: f"group {task.partition('-')[0]}" for task in results(*base)}
    return measure_transfer(results(*base), [results(*row) for row in rows], group_of)


THREE = measure((0.1, 0.2, 0.3), (0.9, 0.4, 0.3), (0.6, 0.8, 0.5), (0.5, 0.7, 0.9))


def test_matrix_has_the_success_of_each_round_on_each_group():
    assert THREE.groups == ["group 0", "group 1", "group 2"]
    assert (THREE.tasks, THREE.base) == ([TASKS] * 3, pytest.approx([0.1, 0.2, 0.3]))
    assert [pytest.approx(row) for row in THREE.rows] == [[0.9, 0.4, 0.3], [0.6, 0.8, 0.5], [0.5, 0.7, 0.9]]


@pytest.mark.parametrize(
    ("summary", "value"),
    [
        ("lastRow", (0.5 + 0.7 + 0.9) / 3),
        ("backwardTransfer", ((0.5 - 0.9) + (0.7 - 0.8)) / 2),
        ("forwardTransfer", ((0.4 - 0.2) + (0.5 - 0.3)) / 2),
        ("forgetting", ((0.9 - 0.5) + (0.8 - 0.7)) / 2),
    ],
)
def test_summaries_are_those_of_the_definitions(summary: str, value: float):
    assert THREE.summaries[summary].value == pytest.approx(value)


def test_all_groups_are_earlier_when_rounds_follow_the_last_arrival():
    found = measure((0.1, 0.2), (0.9, 0.4), (0.8, 0.8), (0.7, 0.5)).summaries
    assert found["forgetting"].value == pytest.approx(((0.9 - 0.7) + (0.8 - 0.5)) / 2)
    assert found["lastRow"].value == pytest.approx(0.6)


def test_interval_surrounds_the_value_and_is_the_same_each_time():
    for estimate in THREE.summaries.values():
        assert estimate.low < estimate.value < estimate.high
    assert measure((0.1, 0.2), (0.9, 0.4)).to_json() == measure((0.1, 0.2), (0.9, 0.4)).to_json()


def test_only_the_last_row_is_summarized_before_a_second_group_arrived():
    assert set(measure((0.1, 0.2), (0.9, 0.4)).summaries) == {"lastRow"}


def test_interval_is_that_of_the_share_of_forgotten_tasks():
    # 40 of 100 tasks: the standard error is 4.9 points
    forgetting = measure((0.0, 0.0), (0.9, 0.0), (0.5, 0.9)).summaries["forgetting"]
    assert (forgetting.low, forgetting.high) == (pytest.approx(0.304, abs=0.02), pytest.approx(0.496, abs=0.02))
