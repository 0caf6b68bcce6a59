"""Conditions: what is true of a run, since when, and for which generation of its spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from distillery_operator.model.objects import Manifest, rfc3339

READY = "Ready"
ACCEPTED = "Accepted"
DATABASE_READY = "DatabaseReady"
STALLED = "Stalled"
SUSPENDED = "Suspended"
REQUEST_ACCEPTED = "RequestAccepted"
PROMOTED = "Promoted"
SERVING = "Serving"
CANARY_PROGRESSING = "CanaryProgressing"
COMPLETE = "Complete"
FAILED = "Failed"

_MAX_MESSAGE = 4096


class ConditionStatus(StrEnum):
    """The statuses of a condition, in the words of Kubernetes."""

    TRUE = "True"
    FALSE = "False"
    UNKNOWN = "Unknown"


@dataclass(frozen=True, slots=True)
class Conditions:
    """The conditions of a run at one time.

    Attributes:
        items: the conditions as the status lists them.
        now: the time of changes, as the status writes times.
        generation: of the spec that changes are about.
    """

    items: tuple[Mapping[str, Any], ...]
    now: str
    generation: int

    @classmethod
    def of(cls, body: Manifest, status: Mapping[str, Any], now: datetime) -> Self:
        """Return the conditions of a status.

        Args:
            body: the run as the API server has it.
            status: its status as the controller wrote it last.
            now: the time, with its zone.
        """
        return cls(tuple(status.get("conditions", [])), rfc3339(now), body["metadata"].get("generation", 1))

    def set(self, kind: str, holds: bool | None, reason: str, message: str) -> Self:
        """Return the conditions with one of them set. ``lastTransitionTime`` moves only when the status changes.

        ``holds`` is None for Unknown.
        """
        status = {None: ConditionStatus.UNKNOWN, True: ConditionStatus.TRUE, False: ConditionStatus.FALSE}[holds]
        before = self.find(kind)
        condition = {
            "type": kind,
            "status": status,
            "reason": str(reason),
            "message": message[:_MAX_MESSAGE],
            "lastTransitionTime": before["lastTransitionTime"] if before and before["status"] == status else self.now,
            "observedGeneration": self.generation,
        }
        if before is None:
            return replace(self, items=(*self.items, condition))
        return replace(self, items=tuple(condition if item is before else item for item in self.items))

    def clear(self, kind: str, reason: str, message: str) -> Self:
        """Return the conditions with one of them set to False if it is True."""
        return self.set(kind, False, reason, message) if self.is_true(kind) else self

    def is_true(self, kind: str) -> bool:
        """Return whether a condition is True."""
        return is_true(self.items, kind)

    def find_true(self, kind: str) -> Mapping[str, Any] | None:
        """Return a condition if it is True, else None."""
        return find_true(self.items, kind)

    def find(self, kind: str) -> Mapping[str, Any] | None:
        """Return a condition, or None."""
        return find(self.items, kind)

    def to_status(self) -> list[dict[str, Any]]:
        """Write ``status.conditions``."""
        return [dict(condition) for condition in self.items]


def is_true(conditions: Iterable[Mapping[str, Any]], kind: str) -> bool:
    """Return whether a condition of a status is True."""
    return find_true(conditions, kind) is not None


def find_true(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """Return a condition of a status if it is True, else None."""
    condition = find(conditions, kind)
    return condition if condition and condition["status"] == ConditionStatus.TRUE else None


def find(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """Return a condition of a status, or None."""
    return next((condition for condition in conditions if condition["type"] == kind), None)
