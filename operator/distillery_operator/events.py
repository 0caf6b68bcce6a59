"""Events of a run, for `kubectl describe`. Each is reported once, when a status first says so. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from distillery_operator import conditions
from distillery_operator.manifests.names import digest
from distillery_operator.objects import Object
from distillery_operator.requests import Outcome

# Conditions whose change is worth an event, and whether it is good news when they become true.
_TOLD = {
    conditions.ACCEPTED: True,
    conditions.DATABASE_READY: True,
    conditions.STALLED: False,
    conditions.SUSPENDED: True,
    conditions.PROMOTED: True,
    conditions.SERVING: True,
    conditions.CANARY_PROGRESSING: True,
    conditions.COMPLETE: True,
    conditions.FAILED: False,
}

_TOLD_WHOLE = (conditions.PROMOTED, conditions.STALLED, conditions.CANARY_PROGRESSING)
"""Those that tell something new with every message."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened. ``key`` tells it from others of the same reason."""

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
        if known.get(name) == phase:
            continue
        key = f"{name}/{record.get('attempts', 1)}/{record.get('startTime', '')}"
        match phase:
            case "Running":
                yield Event("StageStarted", f"Stage {name} runs as Job {record.get('job', '')}.", key=key)
            case "Pending":
                pass
            case "Succeeded":
                yield Event("StageSucceeded", f"Stage {name} succeeded.", key=key)
            case _:
                yield Event("StageFailed", f"Stage {name} failed: {record.get('message', '')}", warning=True, key=key)


def _of_requests(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    known = {(record["name"], record["value"], record["outcome"]) for record in before.get("requests", [])}
    for record in after.get("requests", []):
        said = (record["name"], record["value"], record["outcome"])
        if said not in known:
            refused = record["outcome"] == Outcome.REFUSED
            key = f"{'/'.join(said)}/{record['time']}"
            yield Event(f"Request{record['outcome']}", record["message"], warning=refused, key=key)


def _of_conditions(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[Event]:
    failed = conditions.is_true(after.get("conditions", []), conditions.FAILED)
    for condition in after.get("conditions", []):
        kind = condition["type"]
        if kind not in _TOLD or (kind == conditions.STALLED and failed):
            continue  # of a run that failed Failed tells the same
        was = conditions.find(before.get("conditions", []), kind)
        told = ("status", "reason", "message") if kind in _TOLD_WHOLE else ("status",)
        if was and all(was[part] == condition[part] for part in told):
            continue
        holds = condition["status"] == "True"
        if not holds and kind not in (conditions.ACCEPTED, conditions.PROMOTED) and was is None:
            continue  # not yet, which is no news
        # of steps and of rounds only the message differs
        key = f"{kind}/{condition['lastTransitionTime']}/{condition['reason']}"
        key += f"/{condition['message']}" if kind in _TOLD_WHOLE else ""
        if kind == conditions.CANARY_PROGRESSING:
            warning = condition["reason"] in ("Inconclusive", "RolledBack")
            yield Event(f"Canary{condition['reason']}", condition["message"], warning=warning, key=key)
            continue
        named = (kind == conditions.STALLED and holds) or (kind == conditions.FAILED and not holds)
        reason = condition["reason"] if named else f"{'' if holds else 'Not'}{kind}"
        yield Event(reason, condition["message"], warning=holds != _TOLD[kind] and kind != conditions.PROMOTED, key=key)


def manifest(event: Event, run: Object, now: str) -> Object:
    """The event as an object. Its name is decided by what it says: created twice, it is there once."""
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
        "type": "Warning" if event.warning else "Normal",
        "reason": event.reason,
        "message": event.message[:1024],
        "source": {"component": "distillery"},
        "reportingComponent": "distillery",
        "reportingInstance": "distillery",
        "firstTimestamp": now,
        "lastTimestamp": now,
        "count": 1,
    }
