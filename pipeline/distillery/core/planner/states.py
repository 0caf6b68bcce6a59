"""The values that the planner reads and returns: states of stages, verdicts of rounds, and plans."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from distillery.core.planner.graph import BASE, Lineage, Model, Stage, StageId, student_model
from distillery.core.planner.results import Promotion, StageResult


class StagePhase(StrEnum):
    """The phase of a stage that was started; so the database has it."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


class PlanPhase(StrEnum):
    """The phase of a plan; the phase of a run is the same while nothing else keeps it from its plan."""

    RUNNING = "Running"
    WAITING = "Waiting"
    """The next round waits for failures of users."""

    COMPLETE = "Complete"
    FAILED = "Failed"


@dataclass(frozen=True, slots=True)
class StageState:
    """The observed state of a stage.

    Attributes:
        phase: running, succeeded or failed.
        attempts: how often it was started.
        permanent: for a failed one: starting it again is pointless.
        message: for a failed one: why, in a sentence.
        result: for a succeeded one: what later stages and the status need of it.
    """

    phase: StagePhase
    attempts: int = 1
    permanent: bool = False
    message: str = ""
    result: StageResult = field(default_factory=StageResult)


@dataclass(frozen=True, slots=True)
class Verdict:
    """The end of a round.

    Attributes:
        round: its number.
        student: the digest of its student's adapter; None if it trained none.
        promotion: what became of the student.
    """

    round: int
    student: str | None
    promotion: Promotion

    @property
    def model(self) -> Model:
        """The student that was judged, as a player."""
        return student_model(self.round, self.promotion.candidate)


@dataclass(frozen=True, slots=True)
class Plan:
    """The next step of the executor.

    Attributes:
        phase: of the run.
        round: the round in progress, or the last one.
        verdicts: of the rounds that ended.
        lineage: the models that the round started with.
        message: one sentence for a person.
        running: the stages that are running.
        ready: the stages that can start now, in order.
        start: those of ``ready`` that ``spec.stages.maxParallel`` leaves room for.
    """

    phase: PlanPhase
    round: int
    verdicts: tuple[Verdict, ...]
    lineage: Lineage
    message: str
    running: tuple[StageId, ...] = ()
    ready: tuple[Stage, ...] = ()
    start: tuple[Stage, ...] = ()

    @property
    def serving(self) -> Model:
        """The model that is to be served: the one promoted last, or the base model."""
        return next((v.model for v in reversed(self.verdicts) if v.promotion.promoted), BASE)
