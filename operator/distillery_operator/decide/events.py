"""Events of a run, for `kubectl describe`. Each is reported once, when a status first says so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from distillery_operator.decide.requests import RequestPhase
from distillery_operator.model import conditions as kinds
from distillery_operator.model import reasons
from distillery_operator.model.conditions import ConditionStatus
from distillery_operator.model.names import digest
from distillery_operator.model.objects import Manifest
from distillery_operator.model.phases import StagePhase

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


@dataclass(frozen=True, slots=True)
class EventRule:
    """An event, and when it happens.

    Attributes:
        reason: of the event; None for the reason of the condition.
        type: Normal or Warning.
        fields: of a condition: a change of one of them is an event.
        at_first: a condition that is False from the start is an event too.
    """

    reason: EventReason | None
    type: str = NORMAL
    fields: tuple[str, ...] = ("status",)
    at_first: bool = False


_ALL_FIELDS = ("status", "reason", "message")
"""The fields of conditions of which each new message is an event: of steps and rounds only the message differs."""

_CONDITION_RULES: Mapping[tuple[str, str], EventRule] = {
    (kinds.ACCEPTED, ConditionStatus.TRUE): EventRule(EventReason.RUN_ACCEPTED),
    (kinds.ACCEPTED, ConditionStatus.FALSE): EventRule(EventReason.RUN_REJECTED, WARNING, at_first=True),
    (kinds.DATABASE_READY, ConditionStatus.TRUE): EventRule(EventReason.DATABASE_READY),
    (kinds.DATABASE_READY, ConditionStatus.FALSE): EventRule(EventReason.DATABASE_NOT_READY, WARNING),
    (kinds.STALLED, ConditionStatus.TRUE): EventRule(None, WARNING, _ALL_FIELDS),
    (kinds.STALLED, ConditionStatus.FALSE): EventRule(EventReason.UNBLOCKED, NORMAL, _ALL_FIELDS),
    (kinds.SUSPENDED, ConditionStatus.TRUE): EventRule(EventReason.SUSPENDED),
    (kinds.SUSPENDED, ConditionStatus.FALSE): EventRule(EventReason.RESUMED),
    (kinds.PROMOTED, ConditionStatus.TRUE): EventRule(EventReason.STUDENT_PROMOTED, NORMAL, _ALL_FIELDS),
    (kinds.PROMOTED, ConditionStatus.FALSE): EventRule(
        EventReason.STUDENT_NOT_PROMOTED, NORMAL, _ALL_FIELDS, at_first=True
    ),
    (kinds.SERVING, ConditionStatus.TRUE): EventRule(EventReason.SERVING_STARTED),
    (kinds.SERVING, ConditionStatus.FALSE): EventRule(EventReason.SERVING_INTERRUPTED, WARNING),
    (kinds.COMPLETE, ConditionStatus.TRUE): EventRule(EventReason.RUN_COMPLETED),
    (kinds.COMPLETE, ConditionStatus.FALSE): EventRule(EventReason.RUN_REOPENED),
    (kinds.FAILED, ConditionStatus.TRUE): EventRule(EventReason.RUN_FAILED, WARNING),
    (kinds.FAILED, ConditionStatus.FALSE): EventRule(None),
}
"""The rules for conditions, by their type and status. Those for CanaryProgressing depend on its reason."""

_CANARY_RULES: Mapping[str, EventRule] = {
    reasons.CanaryProgressing.STEP_STARTED: EventRule(EventReason.CANARY_STEP_STARTED, NORMAL, _ALL_FIELDS),
    reasons.CanaryProgressing.PAUSED: EventRule(EventReason.CANARY_PAUSED, NORMAL, _ALL_FIELDS),
    reasons.CanaryProgressing.INCONCLUSIVE: EventRule(EventReason.CANARY_INCONCLUSIVE, WARNING, _ALL_FIELDS),
    reasons.CanaryProgressing.SUPERSEDED: EventRule(EventReason.CANARY_SUPERSEDED, NORMAL, _ALL_FIELDS),
    reasons.CanaryProgressing.WAITING_FOR_SERVERS: EventRule(
        EventReason.CANARY_WAITING_FOR_SERVERS, NORMAL, _ALL_FIELDS
    ),
    reasons.CanaryProgressing.PROMOTED: EventRule(EventReason.CANARY_PROMOTED, NORMAL, _ALL_FIELDS),
    reasons.CanaryProgressing.ROLLED_BACK: EventRule(EventReason.CANARY_ROLLED_BACK, WARNING, _ALL_FIELDS),
    reasons.CanaryProgressing.ABORTED: EventRule(EventReason.CANARY_ABORTED, NORMAL, _ALL_FIELDS),
}

_REQUEST_RULES: Mapping[str, EventRule] = {
    RequestPhase.ACCEPTED: EventRule(EventReason.REQUEST_ACCEPTED),
    RequestPhase.REJECTED: EventRule(EventReason.REQUEST_REJECTED, WARNING),
    RequestPhase.ENDED: EventRule(EventReason.REQUEST_ENDED),
}

_STAGE_RULES: Mapping[str, tuple[EventRule, str]] = {
    StagePhase.RUNNING: (EventRule(EventReason.STAGE_STARTED), "Stage {name} runs as Job {job}."),
    StagePhase.SUCCEEDED: (EventRule(EventReason.STAGE_SUCCEEDED), "Stage {name} succeeded."),
    StagePhase.FAILED: (EventRule(EventReason.STAGE_FAILED, WARNING), "Stage {name} failed: {message}"),
}
"""The rules for stages, by their phase, each with its message."""

TYPES: Mapping[EventReason, str] = {
    rule.reason: rule.type
    for rule in (
        *_CONDITION_RULES.values(),
        *_CANARY_RULES.values(),
        *_REQUEST_RULES.values(),
        *(rule for rule, _ in _STAGE_RULES.values()),
    )
    if rule.reason is not None
}
"""The type of each reason."""


@dataclass(frozen=True, slots=True)
class Event:
    """An event of a run. ``key`` distinguishes it from others of the same reason."""

    reason: str
    message: str
    warning: bool = False
    key: str = ""


def events_between(before: Mapping[str, Any], after: Mapping[str, Any]) -> list[Event]:
    """Return the events that a change of the status causes."""
    return [*_stage_events(before, after), *_request_events(before, after), *_condition_events(before, after)]


def _stage_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    phases = {record["name"]: record["phase"] for record in before.get("stages", [])}
    for record in after.get("stages", []):
        name, phase = record["name"], record["phase"]
        if phases.get(name) == phase or phase not in _STAGE_RULES:
            continue
        rule, text = _STAGE_RULES[phase]
        message = text.format(name=name, job=record.get("job", ""), message=record.get("message", ""))
        yield _event(rule, message, f"{name}/{record.get('attempts', 1)}/{record.get('startTime', '')}")


def _request_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    answered = {(record["name"], record["value"], record["phase"]) for record in before.get("requests", [])}
    for record in after.get("requests", []):
        answer = (record["name"], record["value"], record["phase"])
        if answer not in answered:
            yield _event(_REQUEST_RULES[record["phase"]], record["message"], f"{'/'.join(answer)}/{record['time']}")


def _condition_events(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    failed = kinds.is_true(after.get("conditions", []), kinds.FAILED)
    for condition in after.get("conditions", []):
        kind, reason = condition["type"], condition["reason"]
        rule = _find_rule(condition)
        if rule is None or (kind == kinds.STALLED and failed):
            continue  # an event about Failed says the same
        if _is_new(condition, kinds.find(before.get("conditions", []), kind), rule):
            key = f"{kind}/{condition['lastTransitionTime']}/{reason}"
            key += f"/{condition['message']}" if rule.fields == _ALL_FIELDS else ""
            yield _event(rule, condition["message"], key, reason)


def _find_rule(condition: Mapping[str, Any]) -> EventRule | None:
    kind = condition["type"]
    of_canary = _CANARY_RULES.get(condition["reason"]) if kind == kinds.CANARY_PROGRESSING else None
    return of_canary or _CONDITION_RULES.get((kind, condition["status"]))


def _is_new(condition: Mapping[str, Any], before: Mapping[str, Any] | None, rule: EventRule) -> bool:
    """Return whether a condition is an event: it changed, or is True, or is False and matters from the start."""
    if before is None:
        return condition["status"] == ConditionStatus.TRUE or rule.at_first
    return any(before[name] != condition[name] for name in rule.fields)


def _event(rule: EventRule, message: str, key: str, reason: str = "") -> Event:
    return Event(str(rule.reason or reason), message, warning=rule.type == WARNING, key=key)


def event_manifest(event: Event, run: Manifest, now: str) -> Manifest:
    """Return the event as an object. Its content decides its name: creating it twice makes one object."""
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
