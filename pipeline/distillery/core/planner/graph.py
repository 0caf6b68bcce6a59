"""The stages of a run: their names, what each needs first, and which model plays in it.

This file is the loop as a graph. Both executors, local processes and Kubernetes Jobs, start exactly what stands here.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum

from distillery.core.api.run import Spec


class Kind(StrEnum):
    """The kinds of stages; each is a module of :mod:`distillery.stages`."""

    PREPARE = "prepare"
    ROLLOUT = "rollout"
    HINTS = "hints"
    TEACH = "teach"
    TRAIN = "train"
    EVALUATE = "evaluate"
    PROMOTE = "promote"


@dataclass(frozen=True, slots=True, order=True)
class StageId:
    """The name of a stage within a run. Round 0 holds what is done once, before the first round."""

    round: int
    kind: Kind
    variant: str = ""

    def __str__(self) -> str:
        parts = [f"r{self.round}"] if self.round else []
        parts.append(self.kind.value)
        if self.variant:
            parts.append(self.variant)
        return "-".join(parts)

    @classmethod
    def parse(cls, name: str) -> StageId:
        """Parse a name: the inverse of ``str``."""
        parts = name.split("-")
        round_ = int(parts.pop(0)[1:]) if parts[0][0] == "r" and parts[0][1:].isdigit() else 0
        return cls(round_, Kind(parts[0]), "-".join(parts[1:]))


@dataclass(frozen=True, slots=True)
class Model:
    """The player: the student's base model, the teacher's own model, or a student that a stage trained."""

    kind: str
    """``base``, ``teacher`` or ``student``."""

    trained_by: StageId | None = None
    """For a student: the stage whose result names its weights."""


BASE = Model("base")


@dataclass(frozen=True, slots=True)
class Stage:
    """One unit of work with a typed result.

    Attributes:
        id: its name.
        needs: stages whose results it reads; all must have succeeded.
        player: the model that a server must serve while it runs; None if it needs no server.
        arms: the arms played (kinds rollout, teach and evaluate).
        dataset: what a student learns from (kind train).
    """

    id: StageId
    needs: tuple[StageId, ...] = ()
    player: Model | None = None
    arms: tuple[str, ...] = ()
    dataset: Dataset | None = None


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


def candidate_of(round: int) -> Model:
    """Return the student of a round that the gate judges, and that replaces what was served if it is better."""
    return Model("student", StageId(round, Kind.TRAIN, CANDIDATE))


# The arms of play on training tasks.
ON_POLICY, TEACHER, PLACEBO_TEACHER = "own", "teacher", "placebo-teacher"

# What users played and said to have failed: hints are drawn from it, and nothing is trained on it or judged by it.
PRODUCTION = "live"

# How each arm of evaluation plays: who (None: the model that the round started with), and whose hints.
_STUDENTS = {
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
BASELINE, CANDIDATE = "baseline", "distilled"
"""The arms that the gate compares: the model that the round started with, and the round's candidate."""

_UNTRAINED_ARMS = (BASELINE, "rag", "placebo")

PREPARE = StageId(0, Kind.PREPARE)


def student_of(arm: str) -> str | None:
    """Return the student that plays an arm of evaluation, or None if the round's starting model does."""
    name = arm.removesuffix("+rag")
    return None if name in _UNTRAINED_ARMS else name


def student_that_learns(dataset: Dataset) -> str:
    """Return the student of a dataset."""
    return next(student for student, learned_from in _STUDENTS.items() if learned_from == dataset)


def matched_arms(spec: Spec) -> tuple[str, ...]:
    """Return the learning arms that are matched with one another: those of the evaluated ``-matched`` students."""
    students = [s for arm in spec.evaluation.arms if (s := student_of(arm))]
    return tuple(dict.fromkeys(_STUDENTS[s].arm for s in students if _STUDENTS[s].matched))


def retriever_of(arm: str, spec: Spec) -> str:
    """Return the retriever whose hints an arm of play or of evaluation gets; ``none`` for no hints."""
    if arm in ("placebo", PLACEBO_TEACHER):
        return "random"
    return spec.hints.retriever if arm in ("rag", TEACHER) or arm.endswith("+rag") else "none"


def teaching_temperature(spec: Spec) -> float:
    """Return the temperature that the teacher plays at."""
    return spec.rollout.temperature if spec.teacher_rollout.temperature is None else spec.teacher_rollout.temperature


def teacher_plays_alike(spec: Spec) -> bool:
    """Return whether the teacher and the student play alike but for the hints: the same model and temperature."""
    return spec.models.teacher is None and teaching_temperature(spec) == spec.rollout.temperature


def own_temperatures(spec: Spec) -> list[float]:
    """Return the temperatures of the attempts that the model makes by itself at each training task.

    The first attempt is the one that hints are drawn from. Where a student learns from own successes, there are as many
    as the teacher has, the others at the teacher's temperature: else more tries would pass for the effect of hints.
    """
    students = {student_of(arm) for arm in spec.evaluation.arms}
    learned_from = any(student is not None and _STUDENTS[student].arm == ON_POLICY for student in students)
    further = spec.teacher_rollout.rollouts_per_task - 1 if learned_from else 0
    return [spec.rollout.temperature, *[teaching_temperature(spec)] * further]


def artifact_of(stage: StageId, held_out_tasks: int) -> str:
    """Return the name of a stage's artifact, with the number of held-out tasks if its content depends on it."""
    reads = stage.kind in (Kind.PREPARE, Kind.EVALUATE, Kind.PROMOTE)
    return f"{stage}-{held_out_tasks}" if reads else str(stage)


def prepare() -> Stage:
    """Return the stage that runs once: it checks the configuration, pins the tasks and generates games."""
    return Stage(PREPARE)


def round_stages(spec: Spec, number: int, player: Model) -> list[Stage]:
    """Return the stages of a round, in an order in which each comes after what it needs.

    Stages with the same player stand together as far as the graph allows, so that one server serves them in turn.

    Args:
        spec: what the user wants.
        number: the round, from 1.
        player: the model that the round starts with: the base model, or the student promoted last.
    """

    def sid(kind: Kind, variant: str = "") -> StageId:
        """Return the name of a stage of this round."""
        return StageId(number, kind, variant)

    arms = spec.evaluation.arms
    students = list(dict.fromkeys(s for arm in arms if (s := student_of(arm))))
    trained_on = {_STUDENTS[s].arm for s in students}
    teacher = player if spec.models.teacher is None else Model("teacher")

    rollout = Stage(sid(Kind.ROLLOUT), (PREPARE,), player, (ON_POLICY,))
    hints = Stage(sid(Kind.HINTS), (PREPARE, rollout.id))
    stages = [rollout, hints]

    plays = {ON_POLICY: rollout.id}
    for arm in (TEACHER, PLACEBO_TEACHER):
        if arm in trained_on:
            stage = Stage(sid(Kind.TEACH, "" if arm == TEACHER else "placebo"), (PREPARE, hints.id), teacher, (arm,))
            plays[arm] = stage.id
            stages.append(stage)

    untrained = tuple(arm for arm in arms if arm in _UNTRAINED_ARMS)
    judged = [Stage(sid(Kind.EVALUATE, BASELINE), (PREPARE, hints.id), player, untrained)]
    stages.append(judged[0])

    for student in students:
        dataset = _STUDENTS[student]
        learned = matched_arms(spec) if dataset.matched else (dataset.arm,)
        needs = tuple(dict.fromkeys(plays[arm] for arm in (*learned, TEACHER)))
        # the baseline has opened the held-out tasks: nothing is learned from what begins likewise
        stages.append(Stage(sid(Kind.TRAIN, student), (PREPARE, *needs, judged[0].id), None, (), dataset))
    for student in students:
        trained = sid(Kind.TRAIN, student)
        played = tuple(arm for arm in arms if student_of(arm) == student)
        judged.append(
            Stage(sid(Kind.EVALUATE, student), (PREPARE, hints.id, trained), Model("student", trained), played)
        )
    stages.extend(judged[1:])

    stages.append(Stage(sid(Kind.PROMOTE), (PREPARE, *(s.id for s in judged), sid(Kind.TRAIN, CANDIDATE))))
    return stages
