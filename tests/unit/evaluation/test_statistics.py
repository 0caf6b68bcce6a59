"""Intervals and tests, against values worked out by hand or printed in textbooks."""

from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from distillery.evaluation.statistics import Scores, adjust_p_values, compare_paired, estimate_rate


def arm(*outcomes: float) -> Scores:
    return {f"t{number}": [outcome] for number, outcome in enumerate(outcomes)}


def discordant(only_a: int, only_b: int, both: int) -> tuple[Scores, Scores]:
    a = [1.0] * only_a + [0.0] * only_b + [1.0] * both
    b = [0.0] * only_a + [1.0] * only_b + [1.0] * both
    return arm(*a), arm(*b)


def test_wilson_interval_equals_the_hand_computed_one():
    result = estimate_rate(arm(*[1.0] * 88, *[0.0] * 52))  # (88 + z²/2)/(140 + z²) -+ ...
    assert result.rate == pytest.approx(0.6286, abs=1e-4)
    assert (result.low, result.high) == (pytest.approx(0.5461, abs=1e-4), pytest.approx(0.7042, abs=1e-4))


def test_interval_is_0_to_1_when_there_are_no_tasks():
    assert (estimate_rate({}).low, estimate_rate({}).high) == (0.0, 1.0)


def test_interval_stays_as_wide_when_more_seeds_agree():
    once = estimate_rate(arm(*[1.0] * 30, *[0.0] * 10))
    often = estimate_rate({f"t{n}": [float(n < 30)] * 5 for n in range(40)})
    assert often.rate == once.rate
    assert often.low == pytest.approx(once.low)
    assert often.high == pytest.approx(once.high)


def test_interval_is_that_of_the_tasks_when_all_episodes_succeed():
    assert estimate_rate({f"t{n}": [1.0] * 5 for n in range(20)}).low == estimate_rate(arm(*[1.0] * 20)).low


def test_interval_is_that_of_the_effective_number_of_episodes():
    # two of four tasks always end alike: 0.5² / (8 · 4/3 / 16²) = 6 independent episodes of the 16
    result = estimate_rate({"a": [1.0] * 4, "b": [0.0] * 4, "c": [1.0, 1.0, 0.0, 0.0], "d": [0.0, 1.0, 0.0, 1.0]})
    six = estimate_rate(arm(1, 1, 1, 0, 0, 0))
    assert (result.low, result.high) == (pytest.approx(six.low), pytest.approx(six.high))


def test_interval_covers_the_rate_when_seeds_share_tasks():
    """134 tasks, some nearly always solved and some hardly ever: an interval of episodes covers 0.73 of the time."""
    draw = np.random.default_rng(7)
    covered = 0
    for _ in range(200):
        difficulty = draw.beta(0.3, 0.3, 134)
        solved = (draw.random((134, 5)) < difficulty[:, None]).astype(float)
        result = estimate_rate({f"t{n}": list(row) for n, row in enumerate(solved)})
        covered += result.low <= 0.5 <= result.high
    assert 0.92 <= covered / 200 <= 0.99


def test_mcnemar_is_the_exact_binomial_of_discordant_pairs():
    a, b = discordant(only_a=8, only_b=1, both=10)
    result = compare_paired(a, b)
    assert result.test == "exact McNemar"
    assert (result.only_a, result.only_b) == (8, 1)
    assert result.p == pytest.approx(2 * (1 + 9) / 2**9)
    assert result.difference == pytest.approx(7 / 19)


def test_difference_is_0_and_p_is_1_when_arms_are_equal():
    result = compare_paired(arm(1, 0, 1), arm(1, 0, 1))
    assert (result.difference, result.p) == (0.0, 1.0)


@pytest.mark.parametrize("outcome", [0.0, 1.0])
def test_interval_is_one_point_when_every_task_differs_alike(outcome: float):
    result = compare_paired(arm(*[outcome] * 9), arm(*[0.0] * 9))
    assert (result.low, result.high) == (outcome, outcome)


def test_interval_of_two_tasks_reaches_from_one_to_the_other():
    result = compare_paired(arm(1, 0), arm(0, 0))
    assert (result.low, result.high) == (0.0, 1.0)


@pytest.mark.parametrize("scores", [{"x": [1.0, 0.0], "y": [0.0, 0.0]}, {"x": [0.5], "y": [1.0]}])
def test_mcnemar_needs_one_yes_or_no_per_task(scores: Scores):
    result = compare_paired(scores, {task: [0.0] * len(of_task) for task, of_task in scores.items()})
    assert (result.test, result.only_a, result.only_b) == ("sign-flip permutation", None, None)


def test_equal_scores_do_not_differ_by_permutation():
    assert compare_paired(arm(0.5, 0.2), arm(0.5, 0.2)).p == 1.0


def test_scores_are_compared_by_permutation():
    a = {f"t{n}": [0.9, 0.8] for n in range(10)}
    b = {f"t{n}": [0.1, 0.2] for n in range(10)}
    result = compare_paired(a, b)
    assert result.test == "sign-flip permutation"
    assert result.p == pytest.approx(2 / 2**10)


def test_p_is_not_significant_when_there_are_two_tasks_of_many_seeds():
    assert compare_paired({"x": [1.0] * 50, "y": [1.0] * 50}, {"x": [0.0] * 50, "y": [0.0] * 50}).p >= 0.5


def test_compare_paired_fails_when_arms_played_different_tasks():
    with pytest.raises(ValueError, match="not played on the same tasks"):
        compare_paired({"x": [1.0]}, {"y": [1.0]})


def test_bootstrap_interval_contains_the_difference():
    result = compare_paired(*discordant(only_a=30, only_b=10, both=60))
    assert result.low < result.difference < result.high
    assert result.low > 0


def test_holm_adjusts_step_down():
    assert adjust_p_values([0.01, 0.04, 0.03]) == pytest.approx([0.03, 0.06, 0.06])


def test_memory_stays_bounded_when_there_are_many_tasks():
    random = np.random.default_rng(0)
    a, b = ({str(task): list(random.random(2)) for task in range(1200)} for _ in range(2))
    tracemalloc.start()
    try:
        assert compare_paired(a, b).test == "sign-flip permutation"
        assert tracemalloc.get_traced_memory()[1] < 250e6
    finally:
        tracemalloc.stop()
