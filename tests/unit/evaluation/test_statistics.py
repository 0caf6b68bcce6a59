"""Intervals and tests, against values worked out by hand or printed in textbooks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from distillery.core.api.spec.promotion import Gate
from distillery.evaluation.gate import confidence_of, judge
from distillery.evaluation.statistics import Outcomes, holm, paired, rate_over_tasks


def arm(*outcomes: float) -> Outcomes:
    return {f"t{number}": [outcome] for number, outcome in enumerate(outcomes)}


def discordant(only_a: int, only_b: int, both: int) -> tuple[Outcomes, Outcomes]:
    a = [1.0] * only_a + [0.0] * only_b + [1.0] * both
    b = [0.0] * only_a + [1.0] * only_b + [1.0] * both
    return arm(*a), arm(*b)


def test_wilson_interval_of_a_known_case():
    found = rate_over_tasks(arm(*[1.0] * 88, *[0.0] * 52))  # (88 + z²/2)/(140 + z²) -+ ...
    assert found.rate == pytest.approx(0.6286, abs=1e-4)
    assert (found.low, found.high) == (pytest.approx(0.5461, abs=1e-4), pytest.approx(0.7042, abs=1e-4))


def test_no_trials_tell_nothing():
    assert (rate_over_tasks({}).low, rate_over_tasks({}).high) == (0.0, 1.0)


def test_seeds_that_agree_are_worth_no_more_than_one():
    once = rate_over_tasks(arm(*[1.0] * 30, *[0.0] * 10))
    often = rate_over_tasks({f"t{n}": [float(n < 30)] * 5 for n in range(40)})
    assert often.rate == once.rate
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)


def test_an_arm_that_always_succeeds_has_the_interval_of_its_tasks():
    assert rate_over_tasks({f"t{n}": [1.0] * 5 for n in range(20)}).low == rate_over_tasks(arm(*[1.0] * 20)).low


def test_interval_covers_the_rate_when_seeds_share_tasks():
    """134 tasks, some nearly always solved and some hardly ever: an interval of episodes covers 0.73 of the time."""
    draw = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        difficulty = draw.beta(0.3, 0.3, 134)
        solved = (draw.random((134, 5)) < difficulty[:, None]).astype(float)
        found = rate_over_tasks({f"t{n}": list(row) for n, row in enumerate(solved)})
        covered += found.low <= 0.5 <= found.high
    assert 0.92 <= covered / 200 <= 0.99


def test_mcnemar_is_the_exact_binomial_of_discordant_pairs():
    a, b = discordant(only_a=8, only_b=1, both=10)
    found = paired(a, b)
    assert found.test == "exact McNemar"
    assert (found.only_a, found.only_b) == (8, 1)
    assert found.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert found.difference == pytest.approx(7 / 19)


def test_equal_arms_do_not_differ():
    found = paired(arm(1, 0, 1), arm(1, 0, 1))
    assert (found.difference, found.p) == (0.0, 1.0)


def test_scores_are_compared_by_permutation():
    a = {f"t{n}": [0.9, 0.8] for n in range(10)}
    b = {f"t{n}": [0.1, 0.2] for n in range(10)}
    found = paired(a, b)
    assert found.test == "sign-flip permutation"
    assert found.p == pytest.approx(2 / 2**10)


def test_two_tasks_prove_nothing_however_many_seeds():
    assert paired({"x": [1.0] * 50, "y": [1.0] * 50}, {"x": [0.0] * 50, "y": [0.0] * 50}).p >= 0.5


def test_arms_on_different_tasks_are_not_compared():
    with pytest.raises(ValueError, match="not played on the same tasks"):
        paired({"x": [1.0]}, {"y": [1.0]})


def test_the_bootstrap_interval_holds_the_difference():
    found = paired(*discordant(only_a=30, only_b=10, both=60))
    assert found.low < found.difference < found.high
    assert found.low > 0


def test_holm_adjusts_step_down():
    assert holm([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_the_gate_promotes_a_clear_winner():
    verdict = judge(Gate(), paired(*discordant(only_a=40, only_b=5, both=50)))
    assert verdict.verdict == "Successful"
    assert "+36.8 points" in verdict.reason


def test_the_gate_writes_a_tiny_p_value_as_the_report_does():
    verdict = judge(Gate(), paired(*discordant(only_a=140, only_b=0, both=0)))
    assert "(p < 1e-15, exact McNemar)" in verdict.reason


def test_the_gate_holds_back_a_winner_by_luck():
    verdict = judge(Gate(), paired(*discordant(only_a=6, only_b=2, both=50)))
    assert verdict.verdict == "Inconclusive"
    assert "not better with 95 % confidence" in verdict.reason


def test_the_gate_names_the_tasks_that_would_do_when_inconclusive():
    # 13 tasks won, 5 lost of 40: p = 0.096
    promising = judge(Gate(), paired(*discordant(only_a=13, only_b=5, both=22)))
    assert "some 111 tasks would show it with 80 % power: spec.environment.tasks.evaluate can" in promising.reason
    worse = judge(Gate(), paired(*discordant(only_a=5, only_b=6, both=29)))
    assert (worse.verdict, "power" in worse.reason) == ("Inconclusive", False)


def test_the_gate_asks_for_more_at_each_look():
    better = paired(*discordant(only_a=16, only_b=5, both=22))  # p = 0.027
    assert judge(Gate(), better).verdict == "Successful"
    again = judge(Gate(), better, look=2)
    assert again.verdict == "Inconclusive"
    assert "look 2, at 97.5 % confidence" in again.reason
    looks = range(1, 60)
    promoted_by_luck = sum((1 - confidence_of(Gate(), look)) / 2 for look in looks)  # one of the test's two sides
    assert 0.049 < promoted_by_luck <= 0.05


def test_the_gate_refuses_a_loser():
    assert judge(Gate(), paired(*discordant(only_a=5, only_b=40, both=50))).verdict == "Failed"


def test_the_gate_asks_for_the_least_improvement():
    verdict = judge(Gate.model_validate({"minImprovement": 0.5}), paired(*discordant(only_a=40, only_b=5, both=50)))
    assert verdict.verdict == "Inconclusive"
    assert "50 points asked for" in verdict.reason


def test_memory_stays_bounded_when_there_are_many_tasks():
    random = np.random.default_rng(0)
    a, b = ({str(task): list(random.random(2)) for task in range(1200)} for _ in range(2))
    tracemalloc.start()
    try:
        assert paired(a, b).test == "sign-flip permutation"
        assert tracemalloc.get_traced_memory()[1] < 250e6
    finally:
        tracemalloc.stop()
