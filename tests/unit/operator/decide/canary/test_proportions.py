"""The confidence sequence: exact where that can be computed, and right at every look of simulated canaries."""

from __future__ import annotations

from itertools import product
from math import comb, exp, inf, log
from typing import ClassVar

import numpy as np
import pytest

from distillery_operator.decide.canary.proportions import Comparison, _log_binomial


def mixture(events: int, trials: int, other_events: int, other_trials: int) -> float:
    return exp(Comparison(events, trials, other_events, other_trials)._log_mixture())


def test_mixture_is_a_distribution_of_the_counts():
    n, m = 6, 9
    total = sum(comb(n, x) * comb(m, y) * mixture(x, n, y, m) for x in range(n + 1) for y in range(m + 1))
    assert total == pytest.approx(1.0, abs=1e-12)


@pytest.mark.parametrize("counts", [(0, 0, 0, 0), (0, 4, 0, 7), (1, 4, 3, 7), (4, 4, 0, 0)])
def test_mixture_splits_among_the_next_trials_results(counts: tuple[int, int, int, int]):
    """This makes W / L a martingale, and so the bounds hold at every look."""
    x, n, y, m = counts
    first = mixture(x, n + 1, y, m) + mixture(x + 1, n + 1, y, m)
    second = mixture(x, n, y, m + 1) + mixture(x, n, y + 1, m + 1)
    assert first == pytest.approx(mixture(*counts), rel=1e-12)
    assert second == pytest.approx(mixture(*counts), rel=1e-12)


@pytest.mark.parametrize(
    ("counts", "difference"),
    [
        (counts, difference)
        for counts in [
            (0, 50, 0, 80),
            (3, 50, 0, 80),
            (50, 50, 0, 80),
            (20, 50, 40, 80),
            (0, 0, 5, 9),
            (9, 1000, 1, 10),
        ]
        for difference in (-0.9, -0.05, 0.0, 0.02, 0.6)
    ],
)
def test_likeliest_rates_are_those_of_a_grid(counts: tuple[int, int, int, int], difference: float):
    x, n, y, m = counts
    low, high = max(0.0, -difference), min(1.0, 1.0 - difference)
    rates = (low + (high - low) * step / 20_000 for step in range(20_001))
    grid = max(_log_binomial(x, n, min(1.0, max(0.0, q + difference))) + _log_binomial(y, m, q) for q in rates)
    got = Comparison(*counts)._log_likelihood(difference)
    assert grid <= got + 1e-9
    assert got == pytest.approx(grid, abs=0.01)


@pytest.mark.parametrize(
    ("counts", "difference", "rate"),
    [
        ((0, 50, 0, 80), 0.0, 0.0),  # each rate is likelier than every larger one
        ((50, 50, 80, 80), 0.0, 1.0),
        ((0, 0, 0, 0), 0.0, 0.0),  # all are as likely
        ((2, 2, 1, 3), 0.5, 0.5),  # the slope is 0 at the border
    ],
)
def test_likeliest_rate_is_exactly_at_its_border(counts: tuple[int, int, int, int], difference: float, rate: float):
    assert Comparison(*counts)._likeliest(difference) == rate


def test_likeliest_rate_is_exact_when_events_are_rare():
    assert Comparison(1, 10**6, 1, 10**6)._likeliest(0.0) == pytest.approx(1e-6, rel=1e-8)


class CountingComparison(Comparison):
    """Counts how often the slope is computed."""

    slopes: ClassVar[list[float]] = []

    def _slope(self, other: float, difference: float) -> tuple[float, float]:
        self.slopes.append(other)
        return super()._slope(other, difference)


@pytest.mark.parametrize(("counts", "difference"), [((20, 50, 40, 80), 0.1), ((3, 50, 0, 80), 0.02)])
def test_newton_takes_few_steps_to_the_likeliest_rate(counts: tuple[int, int, int, int], difference: float):
    CountingComparison.slopes.clear()
    CountingComparison(*counts)._likeliest(difference)
    assert len(CountingComparison.slopes) <= 12, "a bisection takes more than 30"


def test_difference_as_likely_as_its_limit_is_excluded():
    empty = Comparison(0, 0, 0, 0)  # every difference is as likely as the mixture
    assert empty.is_below(0.5, 1.0)
    assert empty.upper(1.0) == pytest.approx(0.0, abs=1e-4)


def test_bounds_agree_with_what_is_shown():
    for counts, level in product([(0, 300, 2, 900), (30, 300, 20, 900), (300, 300, 0, 900)], [0.05, 0.001]):
        compared = Comparison(*counts)
        low, high = compared.lower(level), compared.upper(level)
        assert low <= counts[0] / counts[1] - counts[2] / counts[3] <= high
        if high < 1:
            assert compared.is_below(high + 1e-4, level)
            assert not compared.is_below(high - 1e-4, level)
        if low > -1:
            assert compared.is_above(low - 1e-4, level)
            assert not compared.is_above(low + 1e-4, level)


def test_without_events_the_bound_is_that_of_the_prior():
    # the part of the prior without events has a weight of 1/4, and the likelihood at 0.02 is 0.98^n
    assert log(80) / -log(0.98) == pytest.approx(216.9, abs=0.1)
    assert not Comparison(0, 215, 0, 10_000).is_below(0.02, 0.05)
    assert Comparison(0, 217, 0, 10_000).is_below(0.02, 0.05)
    assert Comparison(0, 100, 0, 100).needed(0.02, 0.05) == pytest.approx(217, rel=0.02)


def test_nothing_is_shown_without_trials():
    empty = Comparison(0, 0, 0, 0)
    assert (empty.lower(0.05), empty.upper(0.05), empty.needed(0.02, 0.05)) == (-1.0, 1.0, None)
    assert not Comparison(90, 100, 0, 0).is_above(0.02, 0.05)


def test_needed_trials_are_the_median_of_simulated_canaries():
    needed = Comparison(200, 1000, 200, 1000).needed(0.05, 0.05)
    assert needed is not None
    generator, decided = np.random.default_rng(3), 0
    for _ in range(100):
        x = y = n = 0
        while n < needed:
            n += 50
            x, y = x + int(generator.binomial(50, 0.2)), y + int(generator.binomial(50, 0.2))
            if Comparison(x, n, y, n).is_below(0.05, 0.05):
                decided += 1
                break
    assert 40 <= decided <= 70


@pytest.mark.parametrize("difference", [0.0, 0.25])
def test_difference_equal_to_the_estimate_is_never_shown(difference: float):
    compared = Comparison(500 + 1000 * difference, 1000, 500, 1000)
    always = 1e300  # a level that excludes every difference
    assert not compared.is_below(difference, always)
    assert not compared.is_above(difference, always)
    assert compared.is_below(difference + 1e-9, always)
    assert compared.is_above(difference - 1e-9, always)


@pytest.mark.parametrize(
    ("events", "rate", "likelihood"), [(1, 0.0, -inf), (0, 0.0, 0.0), (1, 1.0, -inf), (2, 1.0, 0.0), (1, 0.5, -log(4))]
)
def test_log_likelihood_is_defined_at_rates_of_0_and_1(events: int, rate: float, likelihood: float):
    assert _log_binomial(events, 2, rate) == pytest.approx(likelihood)
