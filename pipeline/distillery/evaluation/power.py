"""The power of the gate's test, exact McNemar, for a number of held-out tasks, before and after it is run.

The power is exact and unconditional (Duffy, Biometrics 40, 1984): a sum over how many tasks are discordant, that is,
solved by only one of the two models. It needs two numbers: the difference of the success rates, and the share of
discordant tasks. A finished round has both. Before the first, :data:`LOST` replaces the second: a student that gains
also loses some tasks. So the discordant share is taken to be the difference and twice that.
"""

from __future__ import annotations

import math
from bisect import bisect_left

POWER = 0.8
"""The probability of a verdict, where the student is better by the difference in question."""

LOST = 0.05
"""The share of tasks that only the baseline solves. The project's own runs lost 0 to 5 of 100 tasks."""

MAX_TASKS = 100_000
"""As in the resource."""

_DEVIATIONS = 10.0  # of the number of discordant pairs; what lies beyond adds nothing


def min_tasks(confidence: float) -> int:
    """Return the fewest tasks that can show anything. If all are won, the p-value of a two-sided test is 2 / 2^n."""
    return math.ceil(1 - math.log2(1 - confidence))


def power(tasks: int, *, difference: float, discordant: float, confidence: float) -> float:
    """Return the probability that a student that is better by ``difference`` is shown to be.

    Args:
        tasks: held-out tasks, played once by each model.
        difference: of the success rates, above 0.
        discordant: the share of tasks that only one of the two solves, at least ``difference``.
        confidence: of the gate.
    """
    import numpy as np  # here, for SciPy takes a second to import, and the checks of every run import this module
    from scipy import stats

    mean = tasks * discordant
    spread = _DEVIATIONS * math.sqrt(mean * (1 - discordant)) + _DEVIATIONS
    pairs = np.arange(max(0, math.floor(mean - spread)), min(tasks, math.ceil(mean + spread)) + 1)
    # with so many wins among the pairs, or fewer, the p-value is above 1 - confidence
    too_few = stats.binom.isf((1 - confidence) / 2, pairs, 0.5)
    share = (discordant + difference) / (2 * discordant)
    return float(np.sum(stats.binom.pmf(pairs, tasks, discordant) * stats.binom.sf(too_few, pairs, share)))


def smallest_difference(tasks: int, *, confidence: float) -> int | None:
    """Return the smallest difference in whole points that so many tasks show with :data:`POWER`, or None."""

    def shows(points: int) -> bool:
        difference = points / 100
        probability = power(tasks, difference=difference, discordant=difference + 2 * LOST, confidence=confidence)
        return probability >= POWER

    candidates = range(1, round(100 * (1 - 2 * LOST)) + 1)
    index = bisect_left(candidates, True, key=shows)
    return candidates[index] if index < len(candidates) else None


def tasks_needed(*, difference: float, discordant: float, confidence: float) -> int | None:
    """Return how many tasks show a positive difference with :data:`POWER`; None for more than :data:`MAX_TASKS`."""
    if difference <= 0:
        return None
    numbers = range(min_tasks(confidence), MAX_TASKS + 1)

    def show(tasks: int) -> bool:
        return power(tasks, difference=difference, discordant=discordant, confidence=confidence) >= POWER

    index = bisect_left(numbers, True, key=show)
    return numbers[index] if index < len(numbers) else None


def loss_bound(lost: int, tasks: int, *, confidence: float) -> float:
    """Return the one-sided exact upper bound of the share of tasks that are lost (Clopper & Pearson, 1934)."""
    from scipy import stats

    return float(stats.binomtest(lost, tasks, alternative="less").proportion_ci(confidence).high)


def tasks_to_show_losses(limit: float, *, confidence: float) -> int | None:
    """Return how many tasks show that losses are below a limit with :data:`POWER`; None for more than
    :data:`MAX_TASKS`.

    The student is taken to lose :data:`LOST`. The bound is exact, so that a few more tasks can have a little less
    power: it is the first number that has enough.
    """
    import numpy as np
    from scipy import stats

    if limit <= LOST:
        return None
    tasks = np.arange(1, MAX_TASKS + 1)
    # the most losses whose bound is below the limit
    allowed = stats.binom.ppf(1 - confidence, tasks, limit) - 1
    enough = (allowed >= 0) & (stats.binom.cdf(allowed, tasks, LOST) >= POWER)
    return int(tasks[enough.argmax()]) if enough.any() else None
