"""The interface of a sampler: which tasks a later round learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Protocol

from distillery.core.api import Spec
from distillery.environments.base import Task


@dataclass(frozen=True, slots=True)
class TaskHistory:
    """How a task went in the rounds so far.

    Attributes:
        task: the task.
        round: in which it was a training task last.
        plays: the episodes played in it, of all arms of play on training tasks.
        successes: those of them that solved it.
        solved_alone: whether the round's starting model solved it without hints, when it was a training task last.
    """

    task: Task
    round: int
    plays: int
    successes: int
    solved_alone: bool


@dataclass(frozen=True, slots=True)
class Candidates:
    """The tasks that a sampler chooses from.

    Attributes:
        new: tasks that no round learned from, in an order drawn with ``spec.environment.tasks.seed``.
        played: the training tasks of earlier rounds with their histories, those played longest ago first.
    """

    new: Sequence[Task]
    played: Sequence[TaskHistory] = ()


class Sampler(Protocol):
    """A chooser of training tasks. ``distillery.samplers`` is its group of entry points."""

    name: ClassVar[str]

    def __init__(self, spec: Spec) -> None: ...

    def count_new(self, number: int, played: Sequence[TaskHistory]) -> int:
        """Return how many new tasks it would like to have for a round of ``number`` tasks."""
        ...

    def choose(self, number: int, candidates: Candidates) -> list[Task]:
        """Return the tasks of the round: at most ``number``, each once. The same candidates give the same tasks."""
        ...
