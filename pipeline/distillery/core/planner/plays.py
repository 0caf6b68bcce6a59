"""The ways of playing, the students, and the comparisons between them: one table each, and what a run adds to them.

A play says who plays and with which hints. A student says which play it learns from. A comparison says what an arm is
held against. The planner, stages, the report and statistics read these tables; nothing else lists arms.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Self

from distillery.core.api.run import Spec


class PlayerRole(StrEnum):
    """The roles that a model can have in a round."""

    BASE = "base"
    """The untouched model of ``spec.models.student``, in every round."""

    START = "start"
    """The model that the round starts with: the base model, or the student promoted last."""

    LEARNER = "learner"
    """The student of an earlier round that learns from the play: for the candidate's, the model that the round starts
    with; for a control's, the control's own student of the round promoted last."""

    TEACHER = "teacher"
    """``spec.models.teacher``; without one, the learner."""


RETRIEVED, PLACEBO, NO_HINTS = "retrieved", "placebo", "none"
"""Hints by ``spec.hints.retriever``, by ``spec.hints.placebo``, and none. Any other word is a retriever's name."""


@dataclass(frozen=True, slots=True)
class Play:
    """A way of playing tasks.

    Attributes:
        player: who plays.
        hints: :data:`RETRIEVED`, :data:`PLACEBO`, :data:`NO_HINTS`, or the name of a retriever.
    """

    player: PlayerRole
    hints: str = NO_HINTS


@dataclass(frozen=True, slots=True)
class Dataset:
    """The choice of episodes that a student learns from.

    Attributes:
        arm: the learning arm that played them.
        matched: only of tasks that the learning arms of all matched students solved, from each as many.
        filtered: successes only; else every episode.
    """

    arm: str
    matched: bool = False
    filtered: bool = True


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms that are compared because the first claims to beat the second.

    Attributes:
        arm: the first.
        against: the second.
        equal_cost: the claim is that it does so at the same cost.
    """

    arm: str
    against: str
    equal_cost: bool = False


ON_POLICY, CONTROL, TEACHER, PLACEBO_TEACHER = "own", "own-sft", "teacher", "placebo-teacher"
"""The arms of play on training tasks: by the round's starting model, and by the control that learns without hints;
with hints, and with a placebo."""

PRODUCTION = "live"
"""The arm of what users played and said to have failed: hints are drawn from it, and nothing is trained on it."""

BASE_ARM, BASELINE = "base", "baseline"
"""The untouched model, and the round's starting model, with which the gate compares the candidate."""

CONFIRM_BASELINE, CONFIRM_CANDIDATE = "confirm-baseline", "confirm-candidate"
CONFIRMING_ARMS = (CONFIRM_BASELINE, CONFIRM_CANDIDATE)
"""The two that the gate compares, on held-out tasks that no gate has seen."""

_LEARNING: Mapping[str, Play] = {
    ON_POLICY: Play(PlayerRole.START),
    CONTROL: Play(PlayerRole.LEARNER),
    TEACHER: Play(PlayerRole.TEACHER, RETRIEVED),
    PLACEBO_TEACHER: Play(PlayerRole.TEACHER, PLACEBO),
}
"""The plays on training tasks."""

_EVALUATED: Mapping[str, Play] = {
    BASELINE: Play(PlayerRole.START),
    BASE_ARM: Play(PlayerRole.BASE),
    "rag": Play(PlayerRole.BASE, RETRIEVED),
    "placebo": Play(PlayerRole.BASE, PLACEBO),
}
"""The plays on held-out tasks by models that the round did not train; each of its students plays an arm of its name."""

_STUDENTS: Mapping[str, Dataset] = {
    "sft": Dataset(ON_POLICY),
    "distilled": Dataset(TEACHER),
    "placebo-distilled": Dataset(PLACEBO_TEACHER),
    "sft-matched": Dataset(ON_POLICY, matched=True),
    "distilled-matched": Dataset(TEACHER, matched=True),
    "placebo-distilled-matched": Dataset(PLACEBO_TEACHER, matched=True),
    "sft-unfiltered": Dataset(ON_POLICY, filtered=False),
    "distilled-unfiltered": Dataset(TEACHER, filtered=False),
    "placebo-distilled-unfiltered": Dataset(PLACEBO_TEACHER, filtered=False),
}

COMPARISONS: tuple[Comparison, ...] = (
    Comparison("distilled", "sft"),
    Comparison("distilled", "rag"),
    Comparison("distilled", "placebo-distilled"),
    Comparison("distilled-matched", "sft-matched"),
    Comparison("distilled-matched", "placebo-distilled-matched"),
    Comparison("distilled-unfiltered", "sft-unfiltered"),
    Comparison("distilled-unfiltered", "placebo-distilled-unfiltered"),
    Comparison("distilled+rag", "distilled"),
    Comparison("rag", "placebo"),
)
"""The comparisons that say more than that an arm beats the base model."""

_WITH_HINTS = "+rag"


@dataclass(frozen=True, slots=True)
class Strategies:
    """The tables of a run: those above, with the plays, students and comparisons that its specification adds.

    Attributes:
        learning: the plays on training tasks.
        evaluated: the plays on held-out tasks by models that the round did not train.
        students: what each student learns from.
        comparisons: of arms, in addition to those with the base model; first the one that the gate judges.
        arms: the arms that the run evaluates, in order.
        candidate: the student that the gate judges.
        retriever: the run's own.
        placebo: the retriever of its placebo.
    """

    learning: Mapping[str, Play]
    evaluated: Mapping[str, Play]
    students: Mapping[str, Dataset]
    comparisons: tuple[Comparison, ...]
    arms: tuple[str, ...]
    candidate: str
    retriever: str
    placebo: str

    @classmethod
    def of(cls, spec: Spec) -> Self:
        """Return the tables of a run."""
        candidate = spec.promotion.gate.candidate
        plays = {
            tasks: {p.name: Play(PlayerRole(p.player), p.hints) for p in spec.plays if p.tasks == tasks}
            for tasks in ("train", "evaluate")
        }
        students = {one.name: Dataset(one.learns_from, filtered=one.keep == "successes") for one in spec.students}
        comparisons = tuple(Comparison(one.arm, one.against, one.equal_cost) for one in spec.evaluation.comparisons)
        return cls(
            learning={**_LEARNING, **plays["train"]},
            evaluated={**_EVALUATED, **plays["evaluate"]},
            students={**_STUDENTS, **students},
            comparisons=(Comparison(candidate, BASELINE), *COMPARISONS, *comparisons),
            arms=spec.evaluation.arms,
            candidate=candidate,
            retriever=spec.hints.retriever,
            placebo=spec.hints.placebo,
        )

    def student_of(self, arm: str) -> str | None:
        """Return the student that plays an arm of evaluation, or None if no student of the round does."""
        name = arm.removesuffix(_WITH_HINTS)
        return name if name in self.students else None

    @property
    def evaluated_students(self) -> tuple[str, ...]:
        """The students whose arms are evaluated, in the order of the arms."""
        return tuple(dict.fromkeys(student for arm in self.arms if (student := self.student_of(arm))))

    @property
    def learning_arms(self) -> tuple[str, ...]:
        """The plays on training tasks that the evaluated students learn from, in the order of the table."""
        learned = {self.students[student].arm for student in self.evaluated_students}
        return tuple(arm for arm in self.learning if arm in learned)

    @property
    def matched_arms(self) -> tuple[str, ...]:
        """The learning arms that are matched with one another: those of the evaluated matched students."""
        matched = (self.students[student] for student in self.evaluated_students)
        return tuple(dict.fromkeys(dataset.arm for dataset in matched if dataset.matched))

    def find_student(self, dataset: Dataset) -> str | None:
        """Return the evaluated student of a dataset; None if there is none."""
        return next((student for student in self.evaluated_students if self.students[student] == dataset), None)

    def learner_of(self, learning_arm: str) -> str | None:
        """Return the student that plays a learning arm in later rounds; None if no evaluated one learns from it.

        It is the candidate if that learns from it, else the one that learns from all kept successes.
        """
        learners = [student for student in self.evaluated_students if self.students[student].arm == learning_arm]

        def rank(student: str) -> tuple[bool, bool, bool]:
            dataset = self.students[student]
            return student != self.candidate, dataset.matched, not dataset.filtered

        return min(learners, key=rank, default=None)

    def play_of(self, arm: str) -> Play | None:
        """Return the play of an arm; None for that of a student, and for one that no table has."""
        return self.learning.get(arm) or self.evaluated.get(arm)

    def retriever_of(self, arm: str) -> str:
        """Return the retriever whose hints an arm gets; ``none`` for no hints."""
        if arm.endswith(_WITH_HINTS):
            return self.retriever
        play = self.play_of(arm)
        hints = play.hints if play else NO_HINTS
        return {RETRIEVED: self.retriever, PLACEBO: self.placebo}.get(hints, hints)

    def arms_played_by(self, *roles: PlayerRole) -> tuple[str, ...]:
        """Return those of the run's arms that a model with one of the roles plays, in their order."""
        return tuple(arm for arm in self.arms if arm in self.evaluated and self.evaluated[arm].player in roles)


def find_reference(arms: Collection[str]) -> str:
    """Return the arm of the base model; while the round starts with it, that is the baseline."""
    return BASE_ARM if BASE_ARM in arms else BASELINE


def teaching_temperature(spec: Spec) -> float:
    """Return the temperature that the teacher plays at."""
    return spec.rollout.temperature if spec.teacher_rollout.temperature is None else spec.teacher_rollout.temperature


def teacher_plays_alike(spec: Spec) -> bool:
    """Return whether the teacher and the student play alike but for the hints: the same model and temperature."""
    return spec.models.teacher is None and teaching_temperature(spec) == spec.rollout.temperature


def own_temperatures(spec: Spec, *, learned_from: bool) -> list[float]:
    """Return the temperatures of the attempts that a model makes without hints at each training task.

    The first attempt is the one that hints are drawn from. Where a student learns from the play, there are as many as
    the teacher has, the others at the teacher's temperature: else more tries would pass for the effect of hints.
    """
    further = spec.teacher_rollout.rollouts_per_task - 1 if learned_from else 0
    return [spec.rollout.temperature, *[teaching_temperature(spec)] * further]
