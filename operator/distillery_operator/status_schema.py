"""The schema of a run's status. Conditions are the interface; ``phase`` and the texts are for a person's eyes.

Two writers share it, each its own fields: the controller, and, at most every ten seconds, the watcher of progress.
"""

from __future__ import annotations

from typing import Any

MOST_HISTORY = 20
"""Of what was served."""

MAX_REQUEST = 64
"""Characters of an annotation that requests something; more are not looked at."""

MOST_OF_STAGE = 256
"""Characters of the names of the running stages."""


def _text(most: int, description: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, "description": description}


_NUMBER = {"type": "integer", "format": "int64"}
_TIME = {"type": "string", "format": "date-time"}
_ANY = {"type": "object", "x-kubernetes-preserve-unknown-fields": True}

_CONDITION = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": _text(63, "What it is about."),
        "status": {"type": "string", "enum": ["True", "False", "Unknown"]},
        "reason": _text(128, "For programs."),
        "message": _text(4096, "For people."),
        "lastTransitionTime": {**_TIME, "description": "When the status last changed."},
        "observedGeneration": {**_NUMBER, "description": "The generation of the spec that it holds for."},
    },
}

_STAGE = {
    "type": "object",
    "required": ["name", "phase"],
    "properties": {
        "name": _text(63, "Such as r1-rollout."),
        "phase": {"type": "string", "enum": ["Pending", "Running", "Succeeded", "Failed"]},
        "job": _text(63, "The Job that carries it out."),
        "attempts": {**_NUMBER, "description": "Jobs started for it."},
        "message": _text(4096, "Why it failed."),
        "startTime": _TIME,
        "completionTime": _TIME,
        "result": {**_ANY, "description": "What the planner has to know of its result."},
    },
}

_ROUND = {
    "type": "object",
    "required": ["round", "verdict", "promoted"],
    "properties": {
        "round": _NUMBER,
        "verdict": _text(32, "Successful, Failed or Inconclusive."),
        "reason": _text(1024, "One sentence."),
        "promoted": {"type": "boolean", "description": "The student replaced the model that the round started with."},
        "student": _text(64, "Digest of the student's adapter."),
        "metric": {"type": "number", "description": "What rounds.until looks at."},
        "arms": {**_ANY, "description": "Episodes, success and interval of each arm."},
        "completionTime": _TIME,
    },
}

_SERVED = {
    "type": "object",
    "required": ["student", "round", "time"],
    "properties": {
        "student": _text(64, "As above."),
        "round": _NUMBER,
        "reason": _text(1024, "One sentence."),
        "time": _TIME,
    },
}

_COUNTS = {
    "type": "object",
    "description": "The traffic counts of the step, when the outcome last changed.",
    "properties": dict.fromkeys(("requests", "errors", "outcomes", "successes", "slow"), _NUMBER),
}

_CANARY = {
    "type": "object",
    "description": "The canary, or the last one.",
    "properties": {
        "student": _text(64, "The first digits of the digest of its adapter."),
        "round": {**_NUMBER, "description": "The round whose student it is."},
        "step": {**_NUMBER, "description": "From 1."},
        "steps": _NUMBER,
        "weight": {**_NUMBER, "description": "Per cent of the sessions."},
        "shadow": {"type": "boolean", "description": "It gets a copy of every request instead."},
        "outcome": _text(32, "Starting, Running, Inconclusive, Successful, Failed, Error or Aborted."),
        "message": _text(1024, "Why."),
        "decided": {**_TIME, "description": "When the step was decided on."},
        "since": {**_TIME, "description": "When it began for every pod."},
        "configuration": _text(16, "Digest of what was asked for."),
        "newcomer": _COUNTS,
        "incumbent": _COUNTS,
    },
}

_REQUEST = {
    "type": "object",
    "required": ["name", "value", "outcome", "message", "time"],
    "properties": {
        "name": _text(63, "name is the annotation, such as distillery.dev/serve-requested."),
        "value": _text(MAX_REQUEST, "value is the annotation's value that was answered last."),
        "outcome": _text(16, "outcome is Accepted, Refused or Ended."),
        "message": _text(1024, "message says what is in effect, or why the request was refused and the fix."),
        "time": {**_TIME, "description": "time is when the outcome was decided."},
        "effect": _text(MAX_REQUEST, "effect is what is in effect in place of the field of the spec."),
        "replaces": _text(MAX_REQUEST, "replaces is what the field said then: a change of it ends the effect."),
    },
}

STATUS: dict[str, Any] = {
    "type": "object",
    "properties": {
        "observedGeneration": {**_NUMBER, "description": "The generation of the spec that this status is about."},
        "conditions": {
            "type": "array",
            "maxItems": 16,
            "items": _CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "phase": _text(32, "Pending, Running, Waiting, Suspended, Complete or Failed. Derived from the conditions."),
        "message": _text(4096, "message says in a sentence what the run is doing."),
        "round": {**_NUMBER, "description": "round is the current round, or the last one."},
        "roundOf": _text(32, "The same, of how many."),
        "stage": _text(MOST_OF_STAGE, "stage lists the running stages."),
        "stages": {
            "type": "array",
            "maxItems": 64,
            "description": "stages are those of the current round, or of the last one.",
            "items": _STAGE,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "rounds": {
            "type": "array",
            "maxItems": 100,
            "description": "The rounds that ended.",
            "items": _ROUND,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["round"],
        },
        "scores": {
            "type": "object",
            "description": "Success on held-out tasks in the last round, in per cent.",
            "properties": {
                "base": _text(16, "Of the model that the round started with."),
                "student": _text(16, "Of the student."),
            },
        },
        "serving": {
            "type": "object",
            "properties": {
                "student": _text(64, "The first digits of the digest of the adapter that is served; base for none."),
                "round": {**_NUMBER, "description": "The round whose student it is; 0 for the base model."},
                "url": _text(512, "The OpenAI-compatible endpoint inside the cluster."),
                "model": _text(63, "What clients call the model."),
                "replicas": {**_NUMBER, "description": "The pods that there are, which an autoscaler counts."},
                "selector": _text(256, "Their labels, by which an autoscaler finds them."),
                "readyReplicas": {**_NUMBER, "description": "Those that serve it."},
                "canary": _CANARY,
                "history": {
                    "type": "array",
                    "maxItems": MOST_HISTORY,
                    "description": "What was to be served when, and why; the newest first.",
                    "items": _SERVED,
                },
            },
        },
        "learnedDigest": _text(64, "Digest of what the run learned when its first stage started."),
        "images": {
            "type": "object",
            "description": "images are those of the run's pods, as they were configured when it was first seen.",
            "additionalProperties": _text(512, "As pods name it."),
        },
        "upgradeRequest": _text(MAX_REQUEST, "The value of distillery.dev/upgrade-requested that was acted on last."),
        "retryRequest": _text(MAX_REQUEST, "The value of distillery.dev/retry-requested that was acted on last."),
        "requests": {
            "type": "array",
            "maxItems": 8,
            "description": "requests are the answers to annotations that request something.",
            "items": _REQUEST,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "startTime": _TIME,
        "completionTime": _TIME,
        "progress": {
            "type": "object",
            "description": "progress is that of the running stage. It has a writer of its own.",
            "properties": {
                "stage": _text(63, "Which stage it is about."),
                "text": _text(64, "For the eye."),
                "done": _NUMBER,
                "total": _NUMBER,
                "unit": _text(32, "What is counted."),
                "etaSeconds": _NUMBER,
                "time": _TIME,
            },
        },
    },
}
