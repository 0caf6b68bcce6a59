"""The power of a number of tasks, against simulated rounds judged by the gate's own test."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from distillery.core.api.spec.promotion import Gate
from distillery.evaluation.gate import judge
from distillery.evaluation.power import LOST, min_tasks, power, smallest_difference, tasks_needed
from distillery.evaluation.statistics import Difference, compare_paired

DRAWS = 20_000


def simulated(tasks: int, difference: float, discordant: float, confidence: float) -> float:
    """Return the share of simulated rounds in which the exact McNemar test shows the better student to be better."""
    won, lost = (discordant + difference) / 2, (discordant - difference) / 2
    outcomes = np.random.default_rng(0).multinomial(tasks, [won, lost, 1 - won - lost], DRAWS)
    only_a, only_b = outcomes[:, 0], outcomes[:, 1]
    p_values = np.minimum(1, 2 * stats.binom.cdf(only_b, only_a + only_b, 0.5))  # where a won more
    return float(np.mean((only_a > only_b) & (p_values <= 1 - confidence)))


@pytest.mark.parametrize(
    ("tasks", "difference", "discordant", "confidence"),
    [(134, 0.12, 0.22, 0.95), (40, 0.2, 0.45, 0.95), (30, 0.3, 0.3, 0.99)],
)
def test_power_equals_the_share_of_simulated_verdicts(
    tasks: int, difference: float, discordant: float, confidence: float
):
    probability = power(tasks, difference=difference, discordant=discordant, confidence=confidence)
    assert probability == pytest.approx(simulated(tasks, difference, discordant, confidence), abs=0.01)


def test_smallest_difference_is_the_first_that_reaches_the_power():
    points = smallest_difference(134, confidence=0.95)
    assert points == 12
    reached = [simulated(134, p / 100, p / 100 + 2 * LOST, 0.95) for p in (points - 1, points)]
    assert reached[0] < 0.8 < reached[1]


@pytest.mark.parametrize(("confidence", "least"), [(0.5, 2), (0.9, 5), (0.95, 6), (0.99, 8)])
def test_min_tasks_are_the_fewest_with_a_significant_p(confidence: float, least: int):
    def all_won(tasks: int) -> Difference:
        names = [str(number) for number in range(tasks)]
        return compare_paired({name: [1.0] for name in names}, {name: [0.0] for name in names})

    assert min_tasks(confidence) == least
    gate = Gate(confidence=confidence)
    assert judge(gate, all_won(least)).verdict == "Successful"
    assert judge(gate, all_won(least - 1)).verdict == "Inconclusive"


def test_smallest_difference_is_none_when_tasks_are_too_few():
    assert smallest_difference(5, confidence=0.95) is None
    assert smallest_difference(6, confidence=0.95) is None


def test_tasks_needed_reach_the_power_and_one_less_does_not():
    needed = tasks_needed(difference=0.2, discordant=0.45, confidence=0.95)
    assert needed == 93
    assert simulated(needed, 0.2, 0.45, 0.95) > 0.79
    assert simulated(needed - 8, 0.2, 0.45, 0.95) < 0.8


@pytest.mark.parametrize("difference", [-0.1, 0.0, 0.001])
def test_tasks_needed_is_none_when_no_number_is_enough(difference: float):
    assert tasks_needed(difference=difference, discordant=0.45, confidence=0.95) is None
