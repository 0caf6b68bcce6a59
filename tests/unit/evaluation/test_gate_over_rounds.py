"""The error of a whole run: simulated runs in which no student is better, and runs in which every student is."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import stats

from distillery.core.api.spec.promotion import Gate
from distillery.evaluation.gate import required_confidence

TASKS = 140


def simulate(
    *, runs: int, rounds: int, gain: float = 0.0, confidence: Callable[[Gate, int], float] = required_confidence
) -> NDArray[np.bool_]:
    """Return which of the runs promoted a student in any round.

    Each round's candidate solves each task with the probability of the base model, raised by ``gain``. The baseline's
    results stay as they are until a candidate takes its place. Tests are exact McNemar's, on the same tasks each round.
    """
    draw = np.random.default_rng(7)
    solvable = draw.beta(0.5, 0.5, (runs, TASKS))
    baseline = draw.random((runs, TASKS)) < solvable
    promoted = np.zeros(runs, bool)
    for look in range(1, rounds + 1):
        candidate = draw.random((runs, TASKS)) < np.minimum(solvable + gain, 1.0)
        won, lost = (candidate & ~baseline).sum(1), (baseline & ~candidate).sum(1)
        p = np.minimum(1.0, 2 * stats.binom.cdf(np.minimum(won, lost), won + lost, 0.5))
        better = (p <= 1 - confidence(Gate(), look)) & (won > lost)
        baseline[better] = candidate[better]
        promoted |= better
    return promoted


@pytest.mark.parametrize(("rounds", "runs"), [(1, 4_000), (10, 2_000), (100, 1_000), (1_000, 200)])
def test_run_without_a_gain_promotes_at_most_at_the_stated_level(rounds: int, runs: int):
    assert simulate(runs=runs, rounds=rounds).mean() <= 1 - Gate().confidence


def test_runs_promote_by_luck_when_every_look_spends_all_of_the_error():
    assert simulate(runs=1_000, rounds=100, confidence=lambda gate, _: gate.confidence).mean() > 0.3


@pytest.mark.parametrize("rounds", [1, 10])
def test_gain_of_20_points_is_promoted_in_most_runs(rounds: int):
    assert simulate(runs=2_000, rounds=rounds, gain=0.25).mean() >= 0.8
