"""Intervals and paired tests over tasks. Thin: the mathematics is SciPy's."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np
from numpy.typing import NDArray
from scipy import stats

_RESAMPLES = 10_000
_SEED = 0
_MAX_NUMBERS = 2_000_000
"""Numbers of resampled tasks in memory together: tens of megabytes, however many tasks there are."""


Scores = Mapping[str, Sequence[float]]
"""The scores of an arm: task id -> one score per seed."""


@dataclass(frozen=True, slots=True)
class Proportion:
    """The success rate of an arm, with its interval over tasks."""

    rate: float
    low: float
    high: float


def estimate_rate(scores: Scores, *, confidence: float = 0.95) -> Proportion:
    """Return the rate of success and its interval; [0, 1] without tasks.

    With one episode a task it is Wilson's score interval. Episodes of one task are alike, so that more of them are
    worth less than as many tasks: Wilson's interval is then of the effective number of episodes, which is the one that
    would give independent episodes the variance seen between tasks (Kish's design effect). It is never taken to be
    smaller than the number of tasks, nor larger than that of episodes. Nothing is drawn at random.

    Args:
        scores: of 0 and 1.
        confidence: of the interval.
    """
    sizes = np.array([len(of_task) for of_task in scores.values()], np.float64)
    if not len(sizes):
        return Proportion(0.0, 0.0, 1.0)
    sums = np.array([sum(of_task) for of_task in scores.values()], np.float64)
    tasks, n = len(sizes), float(sizes.sum())
    rate = float(sums.sum() / n)
    effective = n
    if tasks < n:
        spread = float(np.sum((sums - rate * sizes) ** 2)) * tasks / max(1, tasks - 1) / n**2
        effective = rate * (1 - rate) / spread if spread > 0 else tasks
        effective = min(n, max(tasks, effective))
    return Proportion(rate, *_wilson(rate, effective, confidence))


def _wilson(rate: float, n: float, confidence: float) -> tuple[float, float]:
    z2 = NormalDist().inv_cdf((1 + confidence) / 2) ** 2
    center = (rate + z2 / (2 * n)) / (1 + z2 / n)
    half = (z2 * (rate * (1 - rate) / n + z2 / (4 * n**2))) ** 0.5 / (1 + z2 / n)
    return max(0.0, center - half), min(1.0, center + half)


@dataclass(frozen=True, slots=True)
class Difference:
    """The difference between ``a`` and ``b`` over the same tasks.

    Attributes:
        tasks: pairs compared.
        difference: mean of a minus mean of b.
        low: of the bootstrap interval of the difference, resampling tasks.
        high: likewise.
        only_a: tasks where only a succeeded; None where the score is not one yes or no per task.
        only_b: tasks where only b succeeded.
        p: two-sided; exact McNemar where the score is one yes or no per task, else a sign-flip permutation test,
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


def compare_paired(a: Scores, b: Scores, *, confidence: float = 0.95) -> Difference:
    """Compare two arms task by task.

    Seeds of one task are not independent, so tasks are what is resampled. With one seed and scores of 0 and 1 the
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
    """Return the percentile interval of the mean, resampling tasks."""
    if len(differences) < 2 or np.ptp(differences) == 0:  # SciPy warns about nothing to resample
        return float(differences.mean()), float(differences.mean())
    interval = stats.bootstrap(
        (differences,),
        np.mean,
        n_resamples=_RESAMPLES,
        confidence_level=confidence,
        method="percentile",
        batch=_batch(len(differences)),
        rng=np.random.default_rng(_SEED),
    ).confidence_interval
    return float(interval.low), float(interval.high)


def _permutation(x: NDArray[np.float64], y: NDArray[np.float64]) -> float:
    """Return the two-sided p-value of equal means if each task's pair could be swapped; exact for few tasks."""
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
        batch=_batch(len(x)),
        rng=np.random.default_rng(_SEED),
    )
    return float(test.pvalue)


def _batch(tasks: int) -> int:
    """Return how many resamples are taken together."""
    return max(1, _MAX_NUMBERS // tasks)


def adjust_p_values(p_values: Sequence[float]) -> list[float]:
    """Return Holm's adjusted p-values, in the order given."""
    order = np.argsort(p_values)
    adjusted = np.empty(len(p_values))
    largest = 0.0
    for rank, index in enumerate(order):
        largest = max(largest, (len(p_values) - rank) * p_values[index])
        adjusted[index] = min(1.0, largest)
    return adjusted.tolist()
