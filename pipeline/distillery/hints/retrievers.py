"""The retrievers, which choose hints for a task. All but ``embedding`` are controls that a claim has to beat."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import ClassVar

from distillery.environments.base import Task
from distillery.hints.bank import HintBank
from distillery.hints.base import EVERY_CATEGORY, Hint


class Embedding:
    """A retriever of the hints nearest to the task's goal."""

    name: ClassVar[str] = "embedding"

    def __init__(self, bank: HintBank) -> None:
        self._bank = bank

    async def retrieve(self, tasks: Sequence[Task], *, k: int) -> list[list[Hint]]:
        """Search once per distinct goal and category."""
        queries = list(dict.fromkeys((task.goal, task.category) for task in tasks))
        vectors = await self._bank.embedder.vectors([goal for goal, _ in queries])
        nearest = {(goal, category): await self._bank.nearest(vectors[goal], category, k) for goal, category in queries}
        return [nearest[task.goal, task.category] for task in tasks]


class _Listed:
    """A retriever that chooses from the whole list of hints."""

    def __init__(self, bank: HintBank) -> None:
        self._bank = bank

    async def retrieve(self, tasks: Sequence[Task], *, k: int) -> list[list[Hint]]:
        hints = await self._bank.all()
        return [self.choose(hints, task, k) for task in tasks]

    def choose(self, hints: list[Hint], task: Task, k: int) -> list[Hint]:
        raise NotImplementedError


class Frequent(_Listed):
    """A retriever of the hints of the task's category that have the most support."""

    name: ClassVar[str] = "frequent"

    def choose(self, hints: list[Hint], task: Task, k: int) -> list[Hint]:
        """Return the first ``k`` that apply."""
        return [hint for hint in hints if hint.category in (task.category, EVERY_CATEGORY)][:k]


class Random(_Listed):
    """A retriever of random hints of the task's category, the same ones for the same task: the placebo."""

    name: ClassVar[str] = "random"

    def choose(self, hints: list[Hint], task: Task, k: int) -> list[Hint]:
        """Draw ``k`` of those that apply."""
        fitting = [hint for hint in hints if hint.category in (task.category, EVERY_CATEGORY)]
        return random.Random(f"placebo {task.id}").sample(fitting, min(k, len(fitting)))  # noqa: S311 - no secret


class WrongCategory(_Listed):
    """A retriever of random hints of other categories; of none where all hints are for every category."""

    name: ClassVar[str] = "mismatched"

    def choose(self, hints: list[Hint], task: Task, k: int) -> list[Hint]:
        """Draw ``k`` that do not apply."""
        others = [hint for hint in hints if hint.category not in (task.category, EVERY_CATEGORY)]
        return random.Random(f"wrong {task.id}").sample(others, min(k, len(others)))  # noqa: S311 - no secret


class Nothing(_Listed):
    """A retriever of no hints."""

    name: ClassVar[str] = "none"

    async def retrieve(self, tasks: Sequence[Task], *, k: int) -> list[list[Hint]]:
        """Return empty lists."""
        return [[] for _ in tasks]
