"""The ways of playing, the students, and the comparisons between them: one table each.

A play says who plays and with which hints. A student says which play it learns from. A comparison says what an arm is
held against, and why. A stage, the report and the statistics read these tables; nothing else lists arms.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum

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


class HintChoice(StrEnum):
    """The hints that a play gets."""

    NONE = "none"
    RETRIEVED = "retrieved"
    """Those that ``spec.hints.retriever`` chooses."""

    PLACEBO = "placebo"
    """As many that ``spec.hints.placebo`` chooses."""


@dataclass(frozen=True, slots=True)
class Play:
    """A way of playing tasks.

    Attributes:
        player: who plays.
        hints: which hints it is given before its first step.
    """

    player: PlayerRole
    hints: HintChoice = HintChoice.NONE


@dataclass(frozen=True, slots=True)
class Dataset:
    """The choice of episodes that a student learns from.

    Attributes:
        arm: the learning arm that played them: ``own``, ``teacher`` or ``placebo-teacher``.
        matched: only of tasks that the learning arms of all matched students solved, from each as many.
        filtered: successes only; else every episode.
    """

    arm: str
    matched: bool = False
    filtered: bool = True


@dataclass(frozen=True, slots=True)
class Comparison:
    """Two arms that are compared because the first claims to beat the second."""

    arm: str
    against: str


ON_POLICY, CONTROL, TEACHER, PLACEBO_TEACHER = "own", "own-sft", "teacher", "placebo-teacher"
"""The arms of play on training tasks: by the round's starting model, and by the control that learns without hints."""

PRODUCTION = "live"
"""What users played and said to have failed: hints are drawn from it. Nothing is trained on it or judged by it."""

BASE_ARM, BASELINE = "base", "baseline"
"""The untouched model, and the round's starting model, with which the gate compares the candidate."""

CONFIRM_BASELINE, CONFIRM_CANDIDATE = "confirm-baseline", "confirm-candidate"
CONFIRMING_ARMS = (CONFIRM_BASELINE, CONFIRM_CANDIDATE)
"""The two that the gate compares, on held-out tasks that no gate has seen."""

LEARNING_PLAYS: Mapping[str, Play] = {
    ON_POLICY: Play(PlayerRole.START),
    CONTROL: Play(PlayerRole.LEARNER),
    TEACHER: Play(PlayerRole.TEACHER, HintChoice.RETRIEVED),
    PLACEBO_TEACHER: Play(PlayerRole.TEACHER, HintChoice.PLACEBO),
}
"""The plays on training tasks."""

EVALUATED_PLAYS: Mapping[str, Play] = {
    BASELINE: Play(PlayerRole.START),
    BASE_ARM: Play(PlayerRole.BASE),
    "rag": Play(PlayerRole.BASE, HintChoice.RETRIEVED),
    "placebo": Play(PlayerRole.BASE, HintChoice.PLACEBO),
}
"""The plays on held-out tasks by models that the round did not train; each of its students plays an arm of its name."""

STUDENTS: Mapping[str, Dataset] = {
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

_WITH_HINTS = "+rag"

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


def student_of(arm: str) -> str | None:
    """Return the student that plays an arm of evaluation, or None if no student of the round does."""
    name = arm.removesuffix(_WITH_HINTS)
    return None if name in EVALUATED_PLAYS else name


def evaluated_students(spec: Spec) -> tuple[str, ...]:
    """Return the students whose arms are evaluated, in the order of the arms."""
    return tuple(dict.fromkeys(student for arm in spec.evaluation.arms if (student := student_of(arm))))


def student_that_learns(dataset: Dataset) -> str:
    """Return the student of a dataset."""
    return next(student for student, learned_from in STUDENTS.items() if learned_from == dataset)


def learner_of(spec: Spec, learning_arm: str) -> str | None:
    """Return the student that plays a learning arm in later rounds; None if no evaluated one learns from it.

    It is the candidate if that learns from it, else the one that learns from all kept successes.
    """
    candidate = spec.promotion.gate.candidate
    learners = [student for student in evaluated_students(spec) if STUDENTS[student].arm == learning_arm]

    def rank(student: str) -> tuple[bool, bool, bool]:
        return student != candidate, STUDENTS[student].matched, not STUDENTS[student].filtered

    return min(learners, key=rank, default=None)


def matched_arms(spec: Spec) -> tuple[str, ...]:
    """Return the learning arms that are matched with one another: those of the evaluated ``-matched`` students."""
    matched = (STUDENTS[student] for student in evaluated_students(spec))
    return tuple(dict.fromkeys(dataset.arm for dataset in matched if dataset.matched))


def retriever_of(arm: str, spec: Spec) -> str:
    """Return the retriever whose hints an arm of play or of evaluation gets; ``none`` for no hints."""
    if arm.endswith(_WITH_HINTS):
        return spec.hints.retriever
    play = LEARNING_PLAYS.get(arm) or EVALUATED_PLAYS.get(arm)
    match play.hints if play else HintChoice.NONE:
        case HintChoice.RETRIEVED:
            return spec.hints.retriever
        case HintChoice.PLACEBO:
            return spec.hints.placebo
        case HintChoice.NONE:
            return "none"


def arms_played_by(role: PlayerRole, arms: Iterable[str]) -> tuple[str, ...]:
    """Return those of the arms of evaluation that a role plays, in their order."""
    return tuple(arm for arm in arms if arm in EVALUATED_PLAYS and EVALUATED_PLAYS[arm].player is role)


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
