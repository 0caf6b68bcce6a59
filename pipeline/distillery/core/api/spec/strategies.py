"""Plays and students that a run adds to those that Distillery has."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import StringConstraints

from distillery.core.api.base import PluginName, SpecModel

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
