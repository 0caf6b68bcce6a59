"""The student to serve. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from distillery.core.api import Spec
from distillery.core.api.spec.promotion import Gate
from distillery.core.planner import Model, Plan
from distillery.core.planner.graph import BASE, student_model
from distillery_operator.model.names import student_label
from distillery_operator.model.rounds import read_rounds


class NoSuchStudent(Exception):
    """The absence of a student: the round that is to be served has none, or none yet."""


@dataclass(frozen=True, slots=True)
class ServingTarget:
    """The student to serve.

    Attributes:
        model: a student, or the base model.
        digest: of the student's adapter; empty for the base model.
        round: that the student is of; 0 for the base model.
        reason: one sentence.
    """

    model: Model
    digest: str
    round: int
    reason: str

    @property
    def student(self) -> str:
        """The student's name in the status and on labels."""
        return student_label(self.digest)

    @property
    def display_name(self) -> str:
        """The student's name in a sentence."""
        return f"student {self.student}" if self.digest else "the base model"

    def is_same_student(self, other: ServingTarget) -> bool:
        """Return whether both are the student of the same round."""
        return (self.student, self.round) == (other.student, other.round)


def select_target(
    spec: Spec, current: Plan, status: Mapping[str, Any], *, pinned_by: str = "spec.serving.pinnedRound"
) -> ServingTarget | None:
    """Return the student that the user pinned, or else the student promoted last; None if there is neither.

    Once something is served, the base model takes the place of a missing student.

    Args:
        spec: the run's.
        current: the planner's plan.
        status: of the run, with the rounds that ended.
        pinned_by: the field or annotation that names the round.

    Raises:
        NoSuchStudent: the user pinned a student that does not exist.
    """
    pinned = spec.serving.pinned_round
    if pinned == 0:
        return ServingTarget(BASE, "", 0, f"{pinned_by} is 0, the base model.")
    promoted = current.serving.trained_by
    number = pinned if pinned is not None else promoted.round if promoted else None
    if number is None:
        return ServingTarget(BASE, "", 0, "No student was promoted.") if "serving" in status else None
    ended = read_rounds(status).get(number)
    if ended is None or not ended.student:
        why = "has not ended" if ended is None else "trained no student"
        raise NoSuchStudent(f"{pinned_by} is {number}, and that round {why}: what was served is served on.")
    reason = ended.promotion.reason if pinned is None else f"{pinned_by} is {number}."
    return ServingTarget(ended.model, ended.student, number, reason)


def find_stable(status: Mapping[str, Any]) -> ServingTarget | None:
    """Return the student that the status says is served, or None."""
    serving = status.get("serving")
    if serving is None:
        return None
    number = serving["round"]
    if number == 0:
        return ServingTarget(BASE, "", 0, "")
    ended = read_rounds(status).get(number)
    if ended is None:
        return ServingTarget(student_model(number, Gate().candidate), "", number, "")
    return ServingTarget(ended.model, ended.student or "", number, "")
