"""The phases of runs and of stages, as the status reports them."""

from __future__ import annotations

from enum import StrEnum


class RunPhase(StrEnum):
    """The phase of a run: ``status.phase``."""

    PENDING = "Pending"
    RUNNING = "Running"
    WAITING = "Waiting"
    """A round waits for failures of users."""
    SUSPENDED = "Suspended"
    COMPLETE = "Complete"
    FAILED = "Failed"


class StagePhase(StrEnum):
    """The phase of a stage: ``status.stages[].phase``."""

    PENDING = "Pending"
    """Another attempt starts soon."""
    RUNNING = "Running"
    SUCCEEDED = "Succeeded"
    FAILED = "Failed"


ENDED = frozenset({RunPhase.COMPLETE, RunPhase.FAILED})
"""The phases of runs that have ended."""
