"""The default sampler: new tasks, and a share of those that were failed."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

from distillery.core.api import Spec
from distillery.environments.base import Task
from distillery.sampling.base import Candidates, TaskHistory


class Fresh:
    """A sampler of new tasks. A share of the round goes to tasks that the model failed without hints before.

    Where new tasks run out, more of the failed ones take their places, and then those that were solved.
    """

    name: ClassVar[str] = "fresh"

    def __init__(self, spec: Spec) -> None:
        self._share = spec.rounds.failure_share

    def count_new(self, number: int, played: Sequence[TaskHistory]) -> int:
        """Return all but the places of failed tasks."""
        return number - self._count_failed(number, played)

    def choose(self, number: int, candidates: Candidates) -> list[Task]:
        """Return failed tasks, new ones, and, as far as places are left, the others that were played."""
        failed = [one.task for one in candidates.played if not one.solved_alone]
        solved = [one.task for one in candidates.played if one.solved_alone]
        again = self._count_failed(number, candidates.played)
        return [*failed[:again], *candidates.new[: number - again], *failed[again:], *solved][:number]

    def _count_failed(self, number: int, played: Sequence[TaskHistory]) -> int:
        """Return the number of places for tasks that were failed."""
        return min(round(self._share * number), sum(not one.solved_alone for one in played))
