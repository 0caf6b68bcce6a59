"""The gate promotes a student that is shown to be better, and says what is missing otherwise."""

from __future__ import annotations

from distillery.core.api.spec.promotion import Gate
from distillery.evaluation.gate import judge, required_confidence
from distillery.evaluation.statistics import compare_paired
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
