"""The evaluation of a student, and the number of rounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from distillery.api.base import Fraction, Part
from distillery.api.feedback import Trigger
from distillery.api.rollout import Temperature

Arm = Literal[
    "base",
    "rag",
    "placebo",
    "sft",
    "distilled",
    "distilled+rag",
    "placebo-distilled",
    "sft-matched",
    "distilled-matched",
    "placebo-distilled-matched",
    "sft-unfiltered",
    "distilled-unfiltered",
    "placebo-distilled-unfiltered",
]
"""One way of playing the held-out tasks.

``base`` is the model that the round started with, ``rag`` the same with retrieved hints, ``placebo`` the same with
random hints of the bank. ``sft`` learned from base's own successes, ``distilled`` from the teacher's, and
``placebo-distilled`` from a teacher with random hints. ``-matched`` students learned from the tasks that all of them
have episodes of, and from equally many episodes of each; ``-unfiltered`` ones also from the failures. After a promotion
the promoted student plays base, own play and, without ``models.teacher``, the teacher. Only before the first promotion
do the controls know nothing of hints.
"""


class Gate(Part):
    """When ``distilled`` replaces the model that the round started with."""

    metric: Literal["success", "score"] = "success"
    """metric is the result that is compared, task by task."""

    confidence: Annotated[float, Field(ge=0.5, lt=1.0)] = 0.95
    """Of the paired test: exact McNemar for success with one seed, else a sign-flip permutation of tasks."""

    min_improvement: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.0
    """The least difference, as a fraction, that is worth a promotion."""


class Evaluation(Part):
    """Playing the held-out tasks."""

    arms: Annotated[tuple[Arm, ...], Field(min_length=2, max_length=13)] = (
        "base",
        "rag",
        "placebo",
        "sft",
        "distilled",
        "distilled+rag",
    )
    """The arms that are played. ``base`` and ``distilled`` are what the gate compares."""

    seeds: Annotated[int, Field(ge=1, le=100)] = 1
    """Episodes per task and arm. More than one needs a temperature above 0."""

    temperature: Temperature = 0.0
    """Of sampling. 0 is greedy."""

    gate: Gate = Gate()
    """When the student is promoted."""


class Until(Part):
    """A target: no further round is started once the promoted student reaches it."""

    metric: Literal["success", "score"] = "success"
    """Mean over the held-out tasks."""

    at_least: Fraction
    """The target, as a fraction."""


class Rounds(Part):
    """The number of rounds, and the rules that end them."""

    max: Annotated[int, Field(ge=1, le=100)] = 1
    """The most rounds."""

    until: Until | None = None
    """Stop once this is reached."""

    patience: Annotated[int | None, Field(ge=1, le=100)] = None
    """Stop after so many rounds in a row without a promotion."""

    trigger: Trigger | None = None
    """trigger makes each later round wait for failed sessions of users. Default: rounds do not wait."""
