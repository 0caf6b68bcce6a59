"""The retrievers, which choose hints for a task. All but ``embedding`` are controls that a claim has to beat."""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Sequence
from dataclasses import replace
from typing import ClassVar

from distillery.core import plugins
from distillery.environments.base import Task
from distillery.hints.bank import HintBank
from distillery.hints.base import EVERY_CATEGORY, Hint, Retriever

NO_HINT = 0
"""The id of a text that is no hint of the bank."""


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
    """A retriever of random hints of the task's category, the same ones for the same task: the default placebo."""

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


class _Altered:
    """A retriever that chooses as the run's own does, and says something else."""

    name: ClassVar[str]

    def __init__(self, bank: HintBank) -> None:
        self._bank = bank

    async def retrieve(self, tasks: Sequence[Task], *, k: int) -> list[list[Hint]]:
        # a control of itself would never end
        name = "embedding" if self._bank.retriever == self.name else self._bank.retriever
        retriever: Retriever = plugins.load("retrievers", name)(self._bank)
        chosen = await retriever.retrieve(tasks, k=k)
        hints = await self._bank.all()
        return [
            [other for hint in of_task if (other := self.alter(hint, task, hints))]
            for task, of_task in zip(tasks, chosen, strict=True)
        ]

    def alter(self, hint: Hint, task: Task, hints: Sequence[Hint]) -> Hint | None:
        raise NotImplementedError


class Inert(_Altered):
    """A retriever of texts with the form of the task's hints that say nothing: their words are those of the goal."""

    name: ClassVar[str] = "inert"

    def alter(self, hint: Hint, task: Task, hints: Sequence[Hint]) -> Hint | None:
        """Replace each word by the next one of the goal; length and punctuation stay."""
        words = itertools.cycle(re.findall(r"[^\W\d_]+", task.goal.lower()) or ["task"])
        return replace(hint, id=NO_HINT, text=re.sub(r"\w+", lambda _: next(words), hint.text))


class Shuffled(_Altered):
    """A retriever of hints on the right subject that say what is true of another one.

    It needs topics, which the extractor ``rules`` writes: "place of mug". Hints without one are left out.
    """

    name: ClassVar[str] = "shuffled"

    def alter(self, hint: Hint, task: Task, hints: Sequence[Hint]) -> Hint | None:
        """Replace what follows the subject by what follows another subject, the same one for the same task."""
        kind, subject = _split_topic(hint.topic)
        if not subject:
            return None
        head, found, tail = hint.text.partition(subject)
        others = []
        for other in hints:
            other_kind, other_subject = _split_topic(other.topic)
            said = other.text.partition(other_subject)[2] if other_subject else ""
            if other_kind == kind and other_subject != subject and said != tail and subject not in said:
                others.append(said)
        if not (found and others):
            return None
        said = random.Random(f"shuffled {task.id} {hint.id}").choice(others)  # noqa: S311 - no secret
        return replace(hint, id=NO_HINT, text=f"{head}{subject}{said}")


def _split_topic(topic: str) -> tuple[str, str]:
    """Return the kind of a topic and its subject: ``place of mug`` is a place, and about a mug."""
    kind, _, subject = topic.rpartition(" of ")
    return kind, subject


class Nothing(_Listed):
    """A retriever of no hints."""

    name: ClassVar[str] = "none"

    async def retrieve(self, tasks: Sequence[Task], *, k: int) -> list[list[Hint]]:
        """Return empty lists."""
        return [[] for _ in tasks]
