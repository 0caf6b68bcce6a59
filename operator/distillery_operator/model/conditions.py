"""Conditions: what is true of a run, since when, and for which generation of its spec."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

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


def set_condition(
    conditions: Iterable[Mapping[str, Any]],
    kind: str,
    holds: bool | None,
    reason: str,
    message: str,
    *,
    now: str,
    generation: int,
) -> list[dict[str, Any]]:
    """Return the conditions with one of them set. ``lastTransitionTime`` moves only when the status changes.

    ``holds`` is None for Unknown.
    """
    status = {True: "True", False: "False", None: "Unknown"}[holds]
    kept = [dict(condition) for condition in conditions]
    before = next((condition for condition in kept if condition["type"] == kind), None)
    since = before["lastTransitionTime"] if before and before["status"] == status else now
    made = {
        "type": kind,
        "status": status,
        "reason": str(reason),
        "message": message[:4096],
        "lastTransitionTime": since,
        "observedGeneration": generation,
    }
    if before is None:
        return [*kept, made]
    return [made if condition is before else condition for condition in kept]


def without(conditions: Iterable[Mapping[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the conditions without one of them."""
    return [dict(condition) for condition in conditions if condition["type"] != kind]


def is_true(conditions: Iterable[Mapping[str, Any]], kind: str) -> bool:
    """Return whether a condition holds."""
    return find_true(conditions, kind) is not None


def find_true(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """Return a condition if it is true, else None."""
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def find(conditions: Iterable[Mapping[str, Any]], kind: str) -> Mapping[str, Any] | None:
    """Return a condition, or None."""
    return next((condition for condition in conditions if condition["type"] == kind), None)
