"""The tasks that a candidate lost: those that the baseline solved and it does not.

A loss is a share of all tasks, in points of success, as a gain is. Bounds are exact (Clopper & Pearson, 1934).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from scipy import stats

from distillery.evaluation.arms import ArmResults
from distillery.evaluation.power import loss_bound
from distillery.evaluation.statistics import adjust_p_values


@dataclass(frozen=True, slots=True)
class Losses:
    """The losses of a candidate.

    Attributes:
        lost: the ids of the tasks that it solves less often than the baseline, sorted.
        tasks: by category, how many there are.
        of_category: by category, how many of them were lost.
    """

    lost: tuple[str, ...]
    tasks: Mapping[str, int]
    of_category: Mapping[str, int]

    @property
    def number(self) -> int:
        """The number of all tasks."""
        return sum(self.tasks.values())


def find_losses(candidate: ArmResults, baseline: ArmResults) -> Losses:
    """Return what a candidate lost against the baseline, on the same tasks."""
    after, before = candidate.mean_by_task("success"), baseline.mean_by_task("success")
    lost = tuple(sorted(task for task, score in before.items() if after[task] < score))
    categories = {row["task_id"]: row["category"] for row in baseline.rows}
    tasks, of_category = dict[str, int](), dict[str, int]()
    for task in sorted(before):
        category = categories[task]
        tasks[category] = tasks.get(category, 0) + 1
        of_category[category] = of_category.get(category, 0) + (task in lost)
    return Losses(lost, tasks, of_category)


def find_forgetting(losses: Losses, *, limit: float, confidence: float) -> str:
    """Return why a candidate has forgotten too much, in a sentence; empty if it is shown that it has not.

    Over all tasks it must be shown that the losses are below the limit. A category, of which there are few tasks, is to
    blame only if it is shown that its losses are above it, corrected for the number of categories (Holm).

    Args:
        losses: of the candidate.
        limit: the largest share of tasks that it may lose.
        confidence: of both statements, one-sided.
    """
    number, lost = losses.number, len(losses.lost)
    exceeding = {
        category: float(stats.binomtest(losses.of_category[category], n, limit, alternative="greater").pvalue)
        for category, n in losses.tasks.items()
    }
    adjusted = dict(zip(exceeding, adjust_p_values(list(exceeding.values())), strict=True))
    worst = min(adjusted, key=lambda category: adjusted[category], default="")
    if worst and adjusted[worst] <= 1 - confidence:
        return (
            f"It lost {losses.of_category[worst]} of {losses.tasks[worst]} tasks of the category {worst!r}, more than "
            f"the {100 * limit:g} points that promotion.gate.maxForgetting allows (p = {adjusted[worst]:.2g})."
        )
    high = loss_bound(lost, number, confidence=confidence)
    if high >= limit:
        return (
            f"It lost {lost} of {number} tasks, which may be up to {100 * high:.1f} points: "
            f"promotion.gate.maxForgetting allows {100 * limit:g}."
        )
    return ""
