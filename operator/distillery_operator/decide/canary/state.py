"""The status of a canary, and the transitions between its phases. Pure.

The status is all that is remembered between two polls. So an operator that starts again resumes the canary.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from distillery.core.contracts.traffic import Counts
from distillery_operator.decide.canary.target import ServingTarget
from distillery_operator.model.objects import rfc3339


class Phase(StrEnum):
    """The phases of a canary, in the words of Argo Rollouts."""

    STARTING = "Starting"
    """Not every pod has applied the step yet."""
    RUNNING = "Running"
    """Every pod has applied the step."""
    INCONCLUSIVE = "Inconclusive"
    """The step is over without a verdict, and the canary waits for the user."""
    SUCCESSFUL = "Successful"
    """The canary passed the step; after the last step it is promoted."""
    FAILED = "Failed"
    """The canary is worse than allowed, or it had no verdict and the policy is ``Abort``."""
    ERROR = "Error"
    """The pods do not report."""
    ABORTED = "Aborted"
    """The user aborted the canary."""


_ACTIVE = (Phase.STARTING, Phase.RUNNING, Phase.INCONCLUSIVE)
_REJECTED = (Phase.FAILED, Phase.ERROR, Phase.ABORTED)

_NAMES = {
    "step_decided_time": "stepDecidedTime",
    "step_start_time": "stepStartTime",
    "spec_hash": "specHash",
}
"""The fields of the status whose names differ from those of the attributes."""
_ATTRIBUTES = {name: attribute for attribute, name in _NAMES.items()}


@dataclass(frozen=True, slots=True)
class Transition:
    """A change of a canary's phase.

    Attributes:
        phase: the next phase. The present one leaves the canary as it is.
        message: why; None keeps the message.
    """

    phase: Phase
    message: str | None = None


@dataclass(frozen=True, slots=True)
class CanaryStatus:
    """The status of a canary.

    Attributes:
        student: the first digits of its digest.
        round: whose student it is.
        step: the current step, or the last one; from 1.
        steps: how many there are.
        weight: per cent of the sessions in this step.
        shadow: it gets copies instead.
        phase: of the step, or of the whole canary once it ended.
        message: why.
        step_decided_time: when the step was decided on.
        step_start_time: when it began for every pod; before that, as ``step_decided_time``.
        spec_hash: digest of the steps and the analysis, so that an edit is noticed.
        canary: the canary's traffic counts, at the last change of the phase.
        stable: the stable student's.
    """

    student: str
    round: int
    step: int
    steps: int
    weight: int
    shadow: bool
    phase: Phase
    message: str
    step_decided_time: str
    step_start_time: str
    spec_hash: str
    canary: Counts = field(default_factory=Counts)
    stable: Counts = field(default_factory=Counts)

    @classmethod
    def read(cls, status: Mapping[str, Any]) -> Self | None:
        """Return the canary of a run's status; None without one, or if another release wrote a phase of its own."""
        record: dict[str, Any] | None = status.get("serving", {}).get("canary")
        if record is None or record["phase"] not in tuple(Phase):
            return None
        values: dict[str, Any] = {_ATTRIBUTES.get(name, name): value for name, value in record.items()}
        values |= {side: Counts(**record[side]) for side in ("canary", "stable")}
        values["phase"] = Phase(record["phase"])
        return cls(**values)

    @property
    def active(self) -> bool:
        """True if the canary is neither promoted nor rolled back yet."""
        return self.phase in _ACTIVE

    @property
    def rejected(self) -> bool:
        """True if the canary was rolled back. It is not tried again; to serve its student, pin the round."""
        return self.phase in _REJECTED

    @property
    def received_traffic(self) -> bool:
        """True if every pod has applied a step: requests, or copies of them, were sent to the canary."""
        if self.step > 1 or self.phase == Phase.RUNNING:
            return True
        return self.phase == Phase.INCONCLUSIVE and self.step_start_time != self.step_decided_time

    def seconds_in_step(self, now: datetime) -> float:
        """Return the seconds since the step began."""
        return (now - datetime.fromisoformat(self.step_start_time)).total_seconds()

    def is_of(self, target: ServingTarget) -> bool:
        """Return whether this is the canary of a student."""
        return (self.student, self.round) == (target.student, target.round)

    def apply(self, transition: Transition, now: datetime, *, canary: Counts, stable: Counts) -> Self:
        """Return the status after a transition, with the traffic counts that led to it."""
        if transition.phase == self.phase:
            return self
        message = self.message if transition.message is None else transition.message
        started = rfc3339(now) if transition.phase == Phase.RUNNING else self.step_start_time
        return replace(
            self, phase=transition.phase, message=message, step_start_time=started, canary=canary, stable=stable
        )

    def to_status(self) -> dict[str, Any]:
        """Write ``status.serving.canary``."""
        values = {**asdict(self), "phase": self.phase.value}
        return {_NAMES.get(attribute, attribute): value for attribute, value in values.items()}
