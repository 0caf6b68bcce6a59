"""The gate promotes a student that is shown to be better, and says what is missing otherwise."""

from __future__ import annotations

from dataclasses import replace

import pytest

from distillery.core.api.spec.promotion import Gate
from distillery.evaluation.gate import judge, required_confidence
from distillery.evaluation.statistics import Difference, compare_paired
from tests.unit.evaluation.test_statistics import discordant


def test_gate_promotes_a_student_that_is_clearly_better():
    result = judge(Gate(), compare_paired(*discordant(only_a=40, only_b=5, both=50)))
    assert result.verdict == "Successful"
    assert "+36.8 points" in result.reason


def test_gate_writes_a_tiny_p_value_as_the_report_does():
    result = judge(Gate(), compare_paired(*discordant(only_a=140, only_b=0, both=0)))
    assert "(p < 1e-15, exact McNemar)" in result.reason


def test_gate_is_inconclusive_when_the_gain_may_be_luck():
    result = judge(Gate(), compare_paired(*discordant(only_a=6, only_b=2, both=50)))
    assert result.verdict == "Inconclusive"
    assert "not better with 95 % confidence" in result.reason


def test_gate_names_the_tasks_needed_when_inconclusive():
    # 13 tasks won, 5 lost of 40: p = 0.096
    promising = judge(Gate(), compare_paired(*discordant(only_a=13, only_b=5, both=22)))
    assert "some 111 tasks would show it with 80 % power: spec.environment.tasks.evaluate can" in promising.reason
    worse = judge(Gate(), compare_paired(*discordant(only_a=5, only_b=6, both=29)))
    assert (worse.verdict, "power" in worse.reason) == ("Inconclusive", False)


def test_gate_asks_for_more_at_each_look():
    better = compare_paired(*discordant(only_a=16, only_b=5, both=22))  # p = 0.027
    assert judge(Gate(), better).verdict == "Successful"
    again = judge(Gate(), better, look=2)
    assert again.verdict == "Inconclusive"
    assert "look 2, at 97.5 % confidence" in again.reason
    looks = range(1, 60)
    promoted_by_luck = sum((1 - required_confidence(Gate(), look)) / 2 for look in looks)  # one of the test's two sides
    assert 0.049 < promoted_by_luck <= 0.05


def test_gate_fails_a_student_that_is_worse():
    assert judge(Gate(), compare_paired(*discordant(only_a=5, only_b=40, both=50))).verdict == "Failed"


def test_gate_is_inconclusive_when_the_gain_is_below_the_minimum():
    result = judge(
        Gate.model_validate({"minImprovement": 0.5}), compare_paired(*discordant(only_a=40, only_b=5, both=50))
    )
    assert result.verdict == "Inconclusive"
    assert "50 points asked for" in result.reason


BETTER = Difference(100, 0.2, 0.1, 0.3, 30, 10, 0.002, "exact McNemar")


def test_reason_has_the_difference_with_its_interval_in_points():
    numbers = "success differs by +20.0 points [+10.0, +30.0] over 100 tasks (p = 0.002, exact McNemar)"
    assert judge(Gate(), BETTER).reason == f"The student is better: {numbers}."


def test_first_look_is_not_named():
    assert "look" not in judge(Gate(), BETTER).reason


@pytest.mark.parametrize(("beyond", "verdict"), [(0.0, "Successful"), (1e-9, "Inconclusive")])
def test_p_value_is_significant_up_to_exactly_its_limit(beyond: float, verdict: str):
    assert judge(Gate(), replace(BETTER, p=1 - required_confidence(Gate(), 1) + beyond)).verdict == verdict


def test_student_that_is_as_good_is_not_worse():
    assert judge(Gate(), replace(BETTER, difference=0.0)).verdict == "Inconclusive"


def test_gain_of_exactly_the_minimum_is_not_enough():
    gate = Gate.model_validate({"minImprovement": 0.2})
    assert judge(gate, BETTER).verdict == "Inconclusive"
    assert judge(gate, replace(BETTER, difference=0.2001)).verdict == "Successful"


def test_p_value_is_written_out_from_the_smallest_that_is():
    assert "(p = 1e-15, " in judge(Gate(), replace(BETTER, p=1e-15)).reason


def test_gate_names_no_tasks_when_scores_are_no_yes_or_no():
    graded = replace(BETTER, p=0.5, only_a=None, only_b=None, test="sign-flip permutation")
    assert judge(Gate(), graded).reason.endswith("sign-flip permutation).")


@pytest.mark.parametrize(("tasks", "named"), [(76, True), (78, False)])
def test_gate_names_no_tasks_when_there_are_as_many(tasks: int, named: bool):
    """78 tasks show this difference at the second look; its p-value is made up."""
    halves = replace(BETTER, tasks=tasks, difference=0.25, only_a=tasks // 2, only_b=0, p=0.5)
    assert ("some 78 tasks would show it" in judge(Gate(), halves).reason) == named
