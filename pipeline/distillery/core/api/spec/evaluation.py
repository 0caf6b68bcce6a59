"""The evaluation of students: the arms, the plays and students that a run adds, and the number of rounds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from distillery.core.api.base import Fraction, PluginName, SpecModel
from distillery.core.api.spec.feedback import Trigger
from distillery.core.api.spec.rollout import Temperature

StrategyName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$", max_length=24)]
"""The name of a play or of a student, which names of stages are made of."""

ArmName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\+rag)?$", max_length=40)]
"""The name of a play on held-out tasks, or of a student; with ``+rag`` a student that is given hints."""


class Play(SpecModel):
    """A way of playing tasks: who plays, and with which hints."""

    name: StrategyName
    """name is the name of the play. No built-in play or student has it."""

    tasks: Literal["train", "evaluate"] = "train"
    """tasks are the training tasks, for a student that learns from the play, or the held-out tasks, for an arm."""

    player: Literal["base", "start", "learner", "teacher"] = "teacher"
    """player is the model that plays. ``base`` is the untouched model, and ``start`` the model that the round started
    with. ``learner`` is the latest student that learns from the play, and ``teacher`` is ``models.teacher``, or else
    the learner."""

    hints: PluginName = "none"
    """hints is the retriever whose hints the player gets before its first step. ``none`` gives no hints."""


class Student(SpecModel):
    """A student, by the play that it learns from. As an arm of evaluation it plays without hints."""

    name: StrategyName
    """name is the name of the student and of its arm. No built-in play or student has it."""

    learns_from: StrategyName
    """learnsFrom is the play on training tasks whose episodes it learns from: ``own``, ``teacher``,
    ``placebo-teacher``, or one of ``plays``."""

    keep: Literal["successes", "all"] = "successes"
    """keep is ``successes`` to learn from the episodes that ``dataFilter`` keeps, or ``all`` to learn from failures,
    too."""


class Comparison(SpecModel):
    """Two arms that are compared in the report."""

    arm: ArmName
    """arm is the arm that claims to be better."""

    against: ArmName
    """against is the arm that it is compared with: its placebo, its rival at equal cost, or any other."""

    equal_cost: bool = False
    """equalCost claims that both arms cost the same. If their costs differ by more than 5 %, the report says so instead
    of giving a p-value."""


BUILTIN_ARMS = (
    "base",
    "baseline",
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
)
"""The arms that Distillery has.

``baseline`` is the model that the round started with. ``rag`` is the base model with retrieved hints, ``placebo`` the
same with random hints of the bank. ``sft`` learned from its own successes, ``distilled`` from the teacher's, and
``placebo-distilled`` from a teacher with random hints. ``-matched`` students learned from the tasks that all of them
have episodes of, and from equally many episodes of each; ``-unfiltered`` ones also from the failures. After a promotion
the promoted student plays the baseline and, without ``models.teacher``, the teacher. Each control continues from its
own student of that round, and the base model plays the arm ``base``, whether it is listed or not.
"""


class Evaluation(SpecModel):
    """Playing the held-out tasks."""

    arms: Annotated[tuple[ArmName, ...], Field(min_length=2, max_length=32)] = (
        "baseline",
        "rag",
        "placebo",
        "sft",
        "distilled",
        "distilled+rag",
    )
    """arms are the ways of playing the held-out tasks: built-in arms, ``students``, and ``plays`` on such tasks.
    ``baseline`` and the student that ``promotion.gate.candidate`` names are what the gate compares."""

    comparisons: Annotated[tuple[Comparison, ...], Field(max_length=32)] = ()
    """comparisons are further pairs of arms to compare in the report. Arms that were not played are left out."""

    rollouts_per_task: Annotated[int, Field(ge=1, le=100)] = 1
    """rolloutsPerTask is the number of episodes per task and arm. More than one needs a temperature above 0."""

    temperature: Temperature = 0.0
    """temperature is the sampling temperature. 0 is greedy."""


class Target(SpecModel):
    """A target: no further round is started once the promoted student reaches it."""

    metric: Literal["success", "score"] = "success"
    """metric is the mean over the held-out tasks that is compared."""

    min_value: Fraction
    """minValue is the value, as a fraction, at which the target is reached."""


Arrival = Annotated[
    tuple[Annotated[str, StringConstraints(min_length=1, max_length=63)], ...], Field(min_length=1, max_length=16)
]
"""A group of tasks, by their labels."""


class Rounds(SpecModel):
    """The number of rounds, and the rules that end them."""

    max_rounds: Annotated[int, Field(ge=1, le=100)] = 1
    """maxRounds is the largest number of rounds that the run takes."""

    target: Target | None = None
    """target ends the run once a promoted student reaches it. Default: no target."""

    patience: Annotated[int | None, Field(ge=1, le=100)] = None
    """patience is the number of rounds in a row without a promotion that ends the run. Default: no limit."""

    arrivals: Annotated[tuple[Arrival, ...], Field(max_length=16)] = ()
    """arrivals are the groups of tasks that enter with each round: the new training tasks of a round are of its group.
    A group lists categories, or other labels of the environment, such as ``thing:mug`` in ``alfworld``. After the last
    group, rounds take tasks of all groups. Held-out tasks are always of all kinds. Default: all tasks in every
    round."""

    sampler: PluginName = "fresh"
    """sampler is ``fresh``, or a name registered under ``distillery.samplers``. It chooses the training tasks of each
    round after the first."""

    failure_share: Fraction = 0.25
    """failureShare is the share of a later round's training tasks that the model failed in earlier rounds. The others
    are new, as long as the environment has new ones."""

    trigger: Trigger | None = None
    """trigger makes each later round wait for failed sessions of users. Default: rounds do not wait."""
