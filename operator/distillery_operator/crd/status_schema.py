"""The schema of a run's status. Conditions are the interface; ``phase`` and the texts are for a person's eyes.

Two writers share it, each its own fields: the controller, and, at most every ten seconds, the watcher of progress.
"""

from __future__ import annotations

from typing import Any

MAX_HISTORY = 20
"""Of what was served."""

MAX_REQUEST = 64
"""Characters of an annotation that requests something; more are not looked at."""

MAX_OF_STAGE = 256
"""Characters of the names of the running stages."""


def _text(most: int, description: str) -> dict[str, Any]:
    return {"type": "string", "maxLength": most, "description": description}


def _choice(*values: str, description: str) -> dict[str, Any]:
    return {"type": "string", "enum": list(values), "description": description}


def _flag(description: str) -> dict[str, Any]:
    return {"type": "boolean", "description": description}


def _number(description: str) -> dict[str, Any]:
    return {"type": "integer", "format": "int64", "description": description}


def _time(description: str) -> dict[str, Any]:
    return {"type": "string", "format": "date-time", "description": description}


def _any(description: str) -> dict[str, Any]:
    return {"type": "object", "x-kubernetes-preserve-unknown-fields": True, "description": description}


_CONDITION = {
    "type": "object",
    "required": ["type", "status", "reason", "message", "lastTransitionTime"],
    "properties": {
        "type": _text(63, "type is the name of the condition, such as Ready."),
        "status": _choice("True", "False", "Unknown", description="status is True, False or Unknown."),
        "reason": _text(128, "reason is one word for programs that says why the condition has its status."),
        "message": _text(4096, "message is the explanation for people. Programs must not parse it."),
        "lastTransitionTime": _time("lastTransitionTime is when the status of the condition last changed."),
        "observedGeneration": _number("observedGeneration is the generation of the spec that the condition is about."),
    },
}

_STAGE = {
    "type": "object",
    "required": ["name", "phase"],
    "properties": {
        "name": _text(63, "name is the round and the kind of the stage, such as r1-rollout."),
        "phase": _choice(
            "Pending", "Running", "Succeeded", "Failed",
            description="phase is Pending, Running, Succeeded or Failed.",
        ),
        "job": _text(63, "job is the name of the Job that runs the stage."),
        "attempts": _number("attempts is the number of Jobs that were started for the stage."),
        "message": _text(4096, "message says why the stage failed."),
        "startTime": _time("startTime is when the stage was started."),
        "completionTime": _time("completionTime is when the stage succeeded or failed."),
        "result": _any("result is the part of the stage's result that later stages depend on."),
    },
}  # fmt: skip

_ROUND = {
    "type": "object",
    "required": ["round", "verdict", "promoted"],
    "properties": {
        "round": _number("round is the number of the round, from 1."),
        "verdict": _text(32, "verdict is Successful, Failed or Inconclusive."),
        "reason": _text(1024, "reason explains the verdict in one sentence."),
        "promoted": _flag("promoted is true if the student replaced the model that the round started with."),
        "student": _text(64, "student is the digest of the student's adapter."),
        "metricValue": {
            "type": "number",
            "description": "metricValue is the candidate's or baseline's mean that rounds.target is compared with.",
        },
        "arms": _any("arms are the episodes, the success and its interval for each arm."),
        "students": _any("students are the digests of the adapters of all students that the round trained."),
        "start": _text(63, "start is base, or the stage that trained the student that the round started with."),
        "candidate": _text(63, "candidate is the name of the student that was judged."),
        "lost": _number("lost is the number of held-out tasks that the baseline solved and the candidate did not."),
        "rejected": _flag("rejected is true if live traffic rejected the student: no later round starts with it."),
        "completionTime": _time("completionTime is when the round ended."),
    },
}

_SERVED = {
    "type": "object",
    "required": ["student", "round", "time"],
    "properties": {
        "student": _text(64, "student is the first digits of its adapter's digest, or base for the base model."),
        "round": _number("round is the round that trained the student, or 0 for the base model."),
        "reason": _text(1024, "reason says in a sentence why the student was to be served."),
        "time": _time("time is when the operator decided to serve the student."),
    },
}


def _counts(description: str) -> dict[str, Any]:
    return {
        "type": "object",
        "description": description,
        "properties": {
            "requests": _number("requests is the number of requests that ended or wait for too long."),
            "errors": _number("errors is the number of requests that the server failed or had no room for."),
            "outcomes": _number("outcomes is the number of sessions whose clients reported an outcome."),
            "successes": _number("successes is the number of sessions that succeeded, as their clients reported."),
            "slow": _number("slow is the number of requests without a first token within the allowed time."),
        },
    }


_CANARY = {
    "type": "object",
    "description": "canary is the canary in progress, or the last one.",
    "properties": {
        "student": _text(64, "student is the first digits of the digest of the canary's adapter."),
        "round": _number("round is the round that trained the student."),
        "step": _number("step is the number of the current or last step, from 1."),
        "steps": _number("steps is the number of steps that the canary has."),
        "weight": _number("weight is the share of the sessions in this step, in percent."),
        "shadow": _flag("shadow is true if the canary gets a copy of every request instead of sessions."),
        "phase": _text(32, "phase is Starting, Running, Inconclusive, Successful, Failed, Error or Aborted."),
        "message": _text(1024, "message explains the phase in a sentence or two."),
        "stepDecidedTime": _time("stepDecidedTime is when the operator decided to begin the step."),
        "stepStartTime": _time("stepStartTime is when every serving pod had applied the step."),
        "specHash": _text(16, "specHash is the digest of spec.serving.canary without the field paused."),
        "canary": _counts("canary is the traffic of the canary in this step, when the phase last changed."),
        "stable": _counts("stable is the traffic of the stable student in this step, when the phase last changed."),
    },
}

_REQUEST = {
    "type": "object",
    "required": ["name", "value", "phase", "message", "time"],
    "properties": {
        "name": _text(63, "name is the annotation, such as distillery.dev/serve-requested."),
        "value": _text(MAX_REQUEST, "value is the annotation's value that was answered last."),
        "phase": _text(16, "phase is Accepted, Rejected or Ended."),
        "message": _text(1024, "message says what is in effect, or why the request was rejected and the fix."),
        "time": _time("time is when the phase was decided."),
        "effect": _text(MAX_REQUEST, "effect is what is in effect in place of the field of the spec."),
        "replaces": _text(MAX_REQUEST, "replaces is what the field said then. A change of the field ends the effect."),
    },
}

_SERVING = {
    "type": "object",
    "description": "serving is what the run serves, and how far its pods are.",
    "properties": {
        "student": _text(64, "student is the first digits of the digest of the served adapter, or base for none."),
        "round": _number("round is the round that trained the student, or 0 for the base model."),
        "url": _text(512, "url is the OpenAI-compatible endpoint inside the cluster."),
        "model": _text(63, "model is the name by which clients request the model."),
        "replicas": _number("replicas is the number of serving pods, which an autoscaler reads."),
        "selector": _text(256, "selector is the label selector by which an autoscaler finds the serving pods."),
        "readyReplicas": _number("readyReplicas is the number of pods that serve the student."),
        "canary": _CANARY,
        "history": {
            "type": "array",
            "maxItems": MAX_HISTORY,
            "description": "history lists what was to be served when, and why. The newest entry is the first.",
            "items": _SERVED,
        },
    },
}

_PROGRESS = {
    "type": "object",
    "description": "progress is how far the running stage is. Another writer than that of conditions sets it.",
    "properties": {
        "stage": _text(63, "stage is the name of the running stage, or empty while the run waits."),
        "text": _text(64, "text is the progress in one short line for people."),
        "done": _number("done is the number of units that are finished."),
        "total": _number("total is the number of units that the stage has."),
        "unit": _text(32, "unit is what the stage counts, such as episodes."),
        "etaSeconds": _number("etaSeconds is the estimated time until the stage ends, in seconds."),
        "time": _time("time is when the stage reported the progress."),
    },
}

STATUS: dict[str, Any] = {
    "type": "object",
    "description": "status is what the operator observed and decided. Conditions are its interface for programs.",
    "properties": {
        "observedGeneration": _number("observedGeneration is the generation of the spec that this status is about."),
        "conditions": {
            "type": "array",
            "maxItems": 16,
            "description": "conditions are the interface of the status for programs, such as Ready and Stalled.",
            "items": _CONDITION,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["type"],
        },
        "phase": _text(
            32, "phase is Pending, Running, Waiting, Suspended, Complete or Failed. It summarizes the conditions."
        ),
        "message": _text(4096, "message says in a sentence what the run is doing."),
        "round": _number("round is the current round, or the last one."),
        "roundProgress": _text(32, "roundProgress is the current round and the largest number of rounds, such as 1/3."),
        "stage": _text(MAX_OF_STAGE, "stage lists the running stages."),
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
            "description": "rounds are the rounds that ended, each with its verdict.",
            "items": _ROUND,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["round"],
        },
        "scores": {
            "type": "object",
            "description": "scores are the success on held-out tasks in the last round, in percent.",
            "properties": {
                "baseline": _text(16, "baseline is the success of the model that the round started with."),
                "candidate": _text(16, "candidate is the success of the round's student."),
            },
        },
        "serving": _SERVING,
        "learnedDigest": _text(64, "learnedDigest is the digest of the fields that decide what the run learns."),
        "images": {
            "type": "object",
            "description": "images are those of the run's pods, as they were configured when it was first seen.",
            "additionalProperties": {"type": "string", "maxLength": 512},
        },
        "upgradeRequest": _text(
            MAX_REQUEST, "upgradeRequest is the last value of distillery.dev/upgrade-requested that was carried out."
        ),
        "retryRequest": _text(
            MAX_REQUEST, "retryRequest is the last value of distillery.dev/retry-requested that was carried out."
        ),
        "requests": {
            "type": "array",
            "maxItems": 8,
            "description": "requests are the answers to annotations that request something.",
            "items": _REQUEST,
            "x-kubernetes-list-type": "map",
            "x-kubernetes-list-map-keys": ["name"],
        },
        "startTime": _time("startTime is when the operator first saw the run."),
        "completionTime": _time("completionTime is when the run became complete or failed."),
        "progress": _PROGRESS,
    },
}
