"""Events of a run: their reasons and their types."""

from __future__ import annotations

from typing import Any

import pytest

from distillery_operator.decide import events
from distillery_operator.decide.events import EventReason, events_between
from distillery_operator.model import conditions, reasons


def status(kind: str, value: str, reason: str, message: str = "Because.") -> dict[str, Any]:
    condition = {"type": kind, "status": value, "reason": reason, "message": message, "lastTransitionTime": "now"}
    return {"conditions": [condition]}


@pytest.mark.parametrize(
    ("kind", "value", "expected", "warning"),
    [
        ("Accepted", "True", "RunAccepted", False),
        ("Accepted", "False", "RunRejected", True),
        ("DatabaseReady", "True", "DatabaseReady", False),
        ("DatabaseReady", "False", "DatabaseNotReady", True),
        ("Stalled", "True", "Why", True),
        ("Stalled", "False", "Unblocked", False),
        ("Suspended", "True", "Suspended", False),
        ("Suspended", "False", "Resumed", False),
        ("Promoted", "True", "StudentPromoted", False),
        ("Promoted", "False", "StudentNotPromoted", False),
        ("Serving", "True", "ServingStarted", False),
        ("Serving", "False", "ServingInterrupted", True),
        ("Complete", "True", "RunCompleted", False),
        ("Complete", "False", "RunReopened", False),
        ("Failed", "True", "RunFailed", True),
        ("Failed", "False", "Why", False),
    ],
)
def test_event_is_reported_when_a_condition_changes(kind: str, value: str, expected: str, warning: bool):
    other = "False" if value == "True" else "True"
    (event,) = events_between(status(kind, other, "Before"), status(kind, value, "Why"))
    assert (event.reason, event.message, event.warning) == (expected, "Because.", warning)


@pytest.mark.parametrize("reason", reasons.CanaryProgressing)
def test_event_is_reported_when_the_reason_of_a_canary_changes(reason: reasons.CanaryProgressing):
    after = status(conditions.CANARY_PROGRESSING, "True", reason)
    (event,) = events_between(status(conditions.CANARY_PROGRESSING, "True", "Before"), after)
    assert event.reason == f"Canary{reason}"
    assert event.warning == (reason in ("Inconclusive", "RolledBack"))


@pytest.mark.parametrize("kind", ["DatabaseReady", "Stalled", "Suspended", "Serving", "Complete", "Failed"])
def test_no_event_is_reported_when_a_condition_is_false_at_first(kind: str):
    assert events_between({}, status(kind, "False", "Why")) == []


@pytest.mark.parametrize("kind", ["Ready", "RequestAccepted"])
def test_no_event_is_reported_when_a_condition_sums_up_others(kind: str):
    assert events_between({}, status(kind, "True", "Why")) == []


def test_no_event_is_reported_when_a_condition_stays():
    assert events_between(status("Serving", "True", "A"), status("Serving", "True", "B")) == []


def test_event_reason_has_one_type():
    assert set(events.TYPES) == set(EventReason)
