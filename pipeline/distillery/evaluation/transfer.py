"""The effect of later rounds on earlier tasks: success by round and group of tasks, and what was lost and gained.

With R[i][j] the success of round i's student on group j, T rounds and as many groups (Lopez-Paz & Ranzato, arXiv
1706.08840, section 3; forgetting after Chaudhry et al., arXiv 1801.10112, section 3):

    last row            mean of R[T][j]
    backward transfer   mean over j < T of R[T][j] - R[j][j]
    forgetting          mean over j < T of max over i < T of R[i][j] - R[T][j]
    forward transfer    mean over j > 1 of R[j - 1][j] - base[j]

Intervals are percentiles of a bootstrap that resamples tasks within their groups, the same tasks in all rounds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

_RESAMPLES = 2_000
_SEED = 0
_CONFIDENCE = 0.95

Matrix = NDArray[np.float64]
"""Shape (..., rounds + 1, groups): the base model first, then the students, by round."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """A number with its interval."""

    value: float
    low: float
    high: float

    def to_json(self) -> dict[str, Any]:
        """Write what a report shows."""
        return {"value": self.value, "ci": [self.low, self.high]}


@dataclass(frozen=True, slots=True)
class Transfer:
    """The success of each round on each group, and its summaries.

    Attributes:
        groups: the names of the groups, in the order of their arrival.
        tasks: how many tasks each has.
        base: the success of the base model on each.
        rows: the success of each round's student on each.
        summaries: by name, as the module describes them; those that need two groups are left out before.
    """

    groups: Sequence[str]
    tasks: Sequence[int]
    base: Sequence[float]
    rows: Sequence[Sequence[float]]
    summaries: Mapping[str, Estimate]

    def to_json(self) -> dict[str, Any]:
        """Write what a report shows."""
        return {
            "groups": list(self.groups),
            "tasks": list(self.tasks),
            "base": list(self.base),
            "rows": [list(row) for row in self.rows],
            **{name: estimate.to_json() for name, estimate in self.summaries.items()},
        }


def measure_transfer(
    base: Mapping[str, float], students: Sequence[Mapping[str, float]], group_of: Mapping[str, str]
) -> Transfer:
    """Return the transfer between groups of tasks.

    Args:
        base: the success of the base model, by task.
        students: that of each round's student, in the order of rounds, on the same tasks.
        group_of: the group of each task, in the order of arrival; tasks of no group are left out.
    """
    groups = list(dict.fromkeys(group_of.values()))
    scores = [
        np.array([[results[task] for task, of in group_of.items() if of == group] for results in (base, *students)])
        for group in groups
    ]
    matrix = np.stack([of_group.mean(axis=1) for of_group in scores], axis=-1)
    draw = np.random.default_rng(_SEED)
    samples = np.stack(
        [
            of_group[:, draw.integers(0, of_group.shape[1], (_RESAMPLES, of_group.shape[1]))].mean(axis=-1).T
            for of_group in scores
        ],
        axis=-1,
    )
    drawn = _summarize(samples)
    tails = [50 * (1 - _CONFIDENCE), 50 * (1 + _CONFIDENCE)]
    summaries = {
        name: Estimate(float(value), *map(float, np.percentile(drawn[name], tails)))
        for name, value in _summarize(matrix).items()
    }
    return Transfer(
        groups,
        [of_group.shape[1] for of_group in scores],
        matrix[0].tolist(),
        matrix[1:].tolist(),
        summaries,
    )


def _summarize(matrix: Matrix) -> dict[str, NDArray[np.float64]]:
    """Return the summaries of a matrix, or of many."""
    base, rows = matrix[..., 0, :], matrix[..., 1:, :]
    rounds, groups = rows.shape[-2:]
    summaries = {"lastRow": rows[..., -1, :].mean(axis=-1)}
    earlier, later = min(groups, rounds - 1), range(1, min(groups, rounds))
    if earlier:
        last = rows[..., -1, :earlier]
        own = np.stack([rows[..., j, j] for j in range(earlier)], axis=-1)
        summaries["backwardTransfer"] = (last - own).mean(axis=-1)
        summaries["forgetting"] = (rows[..., :-1, :earlier].max(axis=-2) - last).mean(axis=-1)
    if later:
        before = np.stack([rows[..., j - 1, j] - base[..., j] for j in later], axis=-1)
        summaries["forwardTransfer"] = before.mean(axis=-1)
    return summaries
