"""Events of a run, for `kubectl describe`. Each is reported once, when a status first says so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from distillery_operator.decide.requests import RequestPhase
from distillery_operator.manifests.names import digest
from distillery_operator.model import conditions, reasons
from distillery_operator.model.objects import Manifest

NORMAL, WARNING = "Normal", "Warning"
"""The types of events."""


class EventReason(StrEnum):
    """The reasons of events.

    An event about Stalled has the reason of the condition, and so has one about a run that starts again.
    """

    RUN_ACCEPTED = "RunAccepted"
    """The operator accepted the spec."""
    RUN_REJECTED = "RunRejected"
    """The operator rejected the spec; the message names the fields and the fixes."""
    RUN_COMPLETED = "RunCompleted"
    """All rounds ended."""
    RUN_REOPENED = "RunReopened"
    """Held-out tasks were added to a complete run, and its last round is judged again."""
    RUN_FAILED = "RunFailed"
    """A stage failed for good, or the operator can't carry out the first spec."""
    SUSPENDED = "Suspended"
    """The run was suspended, or a request paused its stages."""
    RESUMED = "Resumed"
    """The run continues after a suspension or a pause."""
    UNBLOCKED = "Unblocked"
    """The problem that kept the run from continuing is gone."""
    DATABASE_READY = "DatabaseReady"
    """The database runs, and its schema is up to date."""
    DATABASE_NOT_READY = "DatabaseNotReady"
    """The database was ready, and starts or migrates its schema again."""
    STAGE_STARTED = "StageStarted"
    """The operator created the Job of a stage."""
    STAGE_SUCCEEDED = "StageSucceeded"
    """A stage succeeded."""
    STAGE_FAILED = "StageFailed"
    """A stage failed for good."""
    STUDENT_PROMOTED = "StudentPromoted"
    """A round ended and promoted its student."""
    STUDENT_NOT_PROMOTED = "StudentNotPromoted"
    """A round ended and did not promote its student."""
    SERVING_STARTED = "ServingStarted"
    """Every serving pod serves the student."""
    SERVING_INTERRUPTED = "ServingInterrupted"
    """Not every serving pod serves the student any more; others can still answer."""
    CANARY_STEP_STARTED = "CanaryStepStarted"
    """A canary began a step, or continues it after a pause."""
    CANARY_PAUSED = "CanaryPaused"
    """A canary stays at its step until it is resumed."""
    CANARY_INCONCLUSIVE = "CanaryInconclusive"
    """A step showed no difference within its time, and waits for a decision."""
    CANARY_SUPERSEDED = "CanarySuperseded"
    """The student of a later round took the place of the canary."""
    CANARY_WAITING_FOR_SERVERS = "CanaryWaitingForServers"
    """A canary waits until there are servers."""
    CANARY_PROMOTED = "CanaryPromoted"
    """A canary ended, and its student is served to all clients."""
    CANARY_ROLLED_BACK = "CanaryRolledBack"
    """A canary ended, and the stable student gets all traffic."""
    CANARY_ABORTED = "CanaryAborted"
    """A request aborted a canary, and the stable student gets all traffic."""
    REQUEST_ACCEPTED = "RequestAccepted"
    """The operator accepted a request by annotation."""
    REQUEST_REJECTED = "RequestRejected"
    """The operator rejected a request by annotation; the message names the fix."""
    REQUEST_ENDED = "RequestEnded"
    """An accepted request ended, because its field of the spec changed."""


_News = tuple[EventReason | None, str]
"""The reason and the type of an event; None for the condition's own reason."""

_OF_CONDITIONS: Mapping[tuple[str, str], _News] = {
    (conditions.ACCEPTED, "True"): (EventReason.RUN_ACCEPTED, NORMAL),
    (conditions.ACCEPTED, "False"): (EventReason.RUN_REJECTED, WARNING),
    (conditions.DATABASE_READY, "True"): (EventReason.DATABASE_READY, NORMAL),
    (conditions.DATABASE_READY, "False"): (EventReason.DATABASE_NOT_READY, WARNING),
    (conditions.STALLED, "True"): (None, WARNING),
    (conditions.STALLED, "False"): (EventReason.UNBLOCKED, NORMAL),
    (conditions.SUSPENDED, "True"): (EventReason.SUSPENDED, NORMAL),
    (conditions.SUSPENDED, "False"): (EventReason.RESUMED, NORMAL),
    (conditions.PROMOTED, "True"): (EventReason.STUDENT_PROMOTED, NORMAL),
    (conditions.PROMOTED, "False"): (EventReason.STUDENT_NOT_PROMOTED, NORMAL),
    (conditions.SERVING, "True"): (EventReason.SERVING_STARTED, NORMAL),
    (conditions.SERVING, "False"): (EventReason.SERVING_INTERRUPTED, WARNING),
    (conditions.COMPLETE, "True"): (EventReason.RUN_COMPLETED, NORMAL),
    (conditions.COMPLETE, "False"): (EventReason.RUN_REOPENED, NORMAL),
    (conditions.FAILED, "True"): (EventReason.RUN_FAILED, WARNING),
    (conditions.FAILED, "False"): (None, NORMAL),
}
"""The news of a condition with a status. That of a canary depends on the reason."""

_OF_CANARIES: Mapping[str, _News] = {
    reasons.CanaryProgressing.STEP_STARTED: (EventReason.CANARY_STEP_STARTED, NORMAL),
    reasons.CanaryProgressing.PAUSED: (EventReason.CANARY_PAUSED, NORMAL),
    reasons.CanaryProgressing.INCONCLUSIVE: (EventReason.CANARY_INCONCLUSIVE, WARNING),
    reasons.CanaryProgressing.SUPERSEDED: (EventReason.CANARY_SUPERSEDED, NORMAL),
    reasons.CanaryProgressing.WAITING_FOR_SERVERS: (EventReason.CANARY_WAITING_FOR_SERVERS, NORMAL),
    reasons.CanaryProgressing.PROMOTED: (EventReason.CANARY_PROMOTED, NORMAL),
    reasons.CanaryProgressing.ROLLED_BACK: (EventReason.CANARY_ROLLED_BACK, WARNING),
    reasons.CanaryProgressing.ABORTED: (EventReason.CANARY_ABORTED, NORMAL),
}

_OF_REQUESTS: Mapping[str, _News] = {
    RequestPhase.ACCEPTED: (EventReason.REQUEST_ACCEPTED, NORMAL),
    RequestPhase.REJECTED: (EventReason.REQUEST_REJECTED, WARNING),
    RequestPhase.ENDED: (EventReason.REQUEST_ENDED, NORMAL),
}

_OF_STAGES: Mapping[str, _News] = {
    "Running": (EventReason.STAGE_STARTED, NORMAL),
    "Succeeded": (EventReason.STAGE_SUCCEEDED, NORMAL),
    "Failed": (EventReason.STAGE_FAILED, WARNING),
}

TYPES: Mapping[EventReason, str] = {
    reason: kind
    for table in (_OF_CONDITIONS, _OF_CANARIES, _OF_REQUESTS, _OF_STAGES)
    for reason, kind in table.values()
    if reason is not None
}
"""The type of each reason."""

_EVERY_MESSAGE = (conditions.PROMOTED, conditions.STALLED, conditions.CANARY_PROGRESSING)
"""The conditions of which each new message is an event."""

_FALSE_AT_FIRST = (conditions.ACCEPTED, conditions.PROMOTED)
"""The conditions that are news also when they are False from the start."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``key`` distinguishes it from others of the same reason."""

    reason: str
    message: str
    warning: bool = False
    key: str = ""


def events_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    """Return the events that a change of the status causes."""
    return [*_of_stages(before, after), *_of_requests(before, after), *_of_conditions(before, after)]


def _of_stages(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    known = {r["name"]: r["phase"] for r in before.get("stages", [])}
    for record in after.get("stages", []):
        name, phase = record["name"], record["phase"]
        if known.get(name) == phase or phase not in _OF_STAGES:
            continue
        match phase:
            case "Running":
                message = f"Stage {name} runs as Job {record.get('job', '')}."
            case "Succeeded":
                message = f"Stage {name} succeeded."
            case _:
                message = f"Stage {name} failed: {record.get('message', '')}"
        key = f"{name}/{record.get('attempts', 1)}/{record.get('startTime', '')}"
        yield _event(_OF_STAGES[phase], message, key)


def _of_requests(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    known = {(record["name"], record["value"], record["phase"]) for record in before.get("requests", [])}
    for record in after.get("requests", []):
        said = (record["name"], record["value"], record["phase"])
        if said not in known:
            yield _event(_OF_REQUESTS[record["phase"]], record["message"], f"{'/'.join(said)}/{record['time']}")


def _of_conditions(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    failed = conditions.is_true(after.get("conditions", []), conditions.FAILED)
    for condition in after.get("conditions", []):
        kind, reason = condition["type"], condition["reason"]
        news = _OF_CANARIES.get(reason) if kind == conditions.CANARY_PROGRESSING else None
        news = news or _OF_CONDITIONS.get((kind, condition["status"]))
        if news is None or (kind == conditions.STALLED and failed):
            continue  # an event about Failed says the same
        was = conditions.find(before.get("conditions", []), kind)
        parts = ("status", "reason", "message") if kind in _EVERY_MESSAGE else ("status",)
        if was and all(was[part] == condition[part] for part in parts):
            continue
        if was is None and condition["status"] != "True" and kind not in _FALSE_AT_FIRST:
            continue  # not yet, which is no news
        # of steps and of rounds only the message differs
        key = f"{kind}/{condition['lastTransitionTime']}/{reason}"
        key += f"/{condition['message']}" if kind in _EVERY_MESSAGE else ""
        yield _event(news, condition["message"], key, own=reason)


def _event(news: _News, message: str, key: str, *, own: str = "") -> Event:
    reason, kind = news
    return Event(str(reason or own), message, warning=kind == WARNING, key=key)


def manifest(event: Event, run: Manifest, now: str) -> Manifest:
    """Return the event as an object. Its content decides its name: created twice, it is there once."""
    metadata = run["metadata"]
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {
            "name": f"{metadata['name']}.{digest([metadata['uid'], event.reason, event.key])}",
            "namespace": metadata["namespace"],
        },
        "involvedObject": {
            "apiVersion": run["apiVersion"],
            "kind": run["kind"],
            "namespace": metadata["namespace"],
            "name": metadata["name"],
            "uid": metadata["uid"],
        },
        "type": WARNING if event.warning else NORMAL,
        "reason": event.reason,
        "message": event.message[:1024],
        "source": {"component": "distillery"},
        "reportingComponent": "distillery",
        "reportingInstance": "distillery",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
