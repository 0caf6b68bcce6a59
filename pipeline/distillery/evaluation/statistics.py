"""Intervals and paired tests over tasks. Thin: the mathematics is SciPy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_RESAMPLES = 10_000
_SEED = 0


@dataclass(frozen=True, slots=True)
class Proportion:
    """A rate with its Wilson interval. ``n`` trials, ``successes`` of them."""

    n: int
    successes: int
    rate: float
    low: float
    high: float


def wilson(successes: int, n: int, *, confidence: float = 0.95) -> Proportion:
    """Wilson's score interval of a proportion; [0, 1] without trials."""
    if n == 0:
        return Proportion(0, 0, 0.0, 0.0, 1.0)
    interval = stats.binomtest(successes, n).proportion_ci(confidence, method="wilson")
    return Proportion(n, successes, successes / n, float(interval.low), float(interval.high))


@dataclass(frozen=True, slots=True)
class Difference:
    """How ``a`` differs from ``b`` over the same tasks.

    Attributes:
        tasks: pairs compared.
        difference: mean of a minus mean of b.
        low: of the bootstrap interval of the difference, resampling tasks.
        high: likewise.
        only_a: tasks where only a succeeded; None where the outcome is not one yes or no per task.
        only_b: tasks where only b succeeded.
        p: two-sided; exact McNemar where the outcome is one yes or no per task, else a sign-flip permutation test,
            which unlike the bootstrap promises nothing that few tasks can't hold.
        test: the name of the test behind ``p``.
    """

    tasks: int
    difference: float
    low: float
    high: float
    only_a: int | None
    only_b: int | None
    p: float
    test: str


Outcomes = Mapping[str, Sequence[float]]
"""Task id -> one outcome per seed."""


def paired(a: Outcomes, b: Outcomes, *, confidence: float = 0.95) -> Difference:
    """Compare two arms task by task.

    Seeds of one task are not independent, so tasks are what is resampled. With one seed and outcomes of 0 and 1 the
    p-value is McNemar's, exact, which holds for few tasks too.

    Raises:
        ValueError: the arms were not played on the same tasks.
    """
    if a.keys() != b.keys():
        odd = sorted(a.keys() ^ b.keys())
        raise ValueError(f"the arms were not played on the same tasks: {len(odd)} differ, such as {odd[0]}")
    tasks = sorted(a)
    x = np.array([np.mean(a[task]) for task in tasks], np.float64)
    y = np.array([np.mean(b[task]) for task in tasks], np.float64)
    low, high = _bootstrap(x - y, confidence)
    binary = all(len(o[t]) == 1 and o[t][0] in (0.0, 1.0) for o in (a, b) for t in tasks)
    only_a, only_b, test = None, None, "sign-flip permutation"
    if binary:
        only_a, only_b, test = int(np.sum(x > y)), int(np.sum(y > x)), "exact McNemar"
        p = float(stats.binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    else:
        p = _permutation(x, y)
    return Difference(len(tasks), float(np.mean(x - y)), low, high, only_a, only_b, p, test)


def _bootstrap(differences: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    """Percentile interval of the mean, resampling tasks."""
    if len(differences) < 2 or np.ptp(differences) == 0:  # SciPy warns about nothing to resample
        return float(differences.mean()), float(differences.mean())
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _permutation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Two-sided p-value of equal means when each task's pair could as well be swapped; exact for few tasks."""
    if np.array_equal(x, y):
        return 1.0

    def difference(a: NDArray[np.float64], b: NDArray[np.float64], axis: int) -> NDArray[np.float64]:
        return np.mean(a - b, axis=axis)

    test = stats.permutation_test(
        (x, y),
        difference,
        permutation_type="samples",
        n_resamples=_RESAMPLES,
        vectorized=True,
        rng=np.random.default_rng(_SEED),
    )
    return float(test.pvalue)


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's adjusted p-values, in the order given."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    running = 0.0
    for rank, index in enumerate(order):
        running = max(running, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, running)
    return adjusted.tolist()
