"""The observed state of a run: its objects, and what its pods report. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distillery.core.contracts.traffic import Counts
from distillery_operator.model.names import COMPONENT_LABEL, SERVING_COMPONENT, STAGE_LABEL
from distillery_operator.model.objects import Manifest

_JOB_LABEL = "batch.kubernetes.io/job-name"


@dataclass(frozen=True, slots=True)
class Refusal:
    """An object that can't be made what the run needs.

    Attributes:
        what: its kind and name.
        reason: one word for programs.
        message: why, in a sentence.
    """

    what: str
    reason: str
    message: str


@dataclass(frozen=True)
class Observed:
    """The objects of a run, all owned by it.

    Attributes:
        jobs: by name.
        pods: of Jobs, databases and servers.
        claims: by name.
        stateful_sets: by name.
        deployments: by name.
        events: about objects that are stuck, by the uid of the object; the newest last.
        generations: of the routing documents that serving pods have applied, by the name of the pod.
        problems: why serving pods can't serve what they should, as they report, by the name of the pod.
        failures: failed sessions of users that no round has learned from, if a run waits for them.
        traffic: the counts of the students that they serve, by the name of the pod and the label of the student.
        seconds_since_last_report: of a serving pod, of those that were polled.
        refusals: what the API server refused at the last attempt, or would have done to objects of others.
    """

    jobs: Mapping[str, Manifest] = field(default_factory=dict)
    pods: tuple[Manifest, ...] = ()
    claims: Mapping[str, Manifest] = field(default_factory=dict)
    stateful_sets: Mapping[str, Manifest] = field(default_factory=dict)
    deployments: Mapping[str, Manifest] = field(default_factory=dict)
    events: Mapping[str, tuple[Manifest, ...]] = field(default_factory=dict)
    generations: Mapping[str, int] = field(default_factory=dict)
    problems: Mapping[str, str] = field(default_factory=dict)
    failures: int = 0
    traffic: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)
    seconds_since_last_report: float = 0.0
    refusals: tuple[Refusal, ...] = ()

    def pods_of(self, job: str) -> list[Manifest]:
        """Return the pods of a Job."""
        return [pod for pod in self.pods if pod["metadata"].get("labels", {}).get(_JOB_LABEL) == job]


def job_condition(job: Manifest, kind: str) -> Mapping[str, Any] | None:
    """Return a condition of a Job if it is true, else None."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def serving_pods(observed: Observed) -> list[Manifest]:
    """Return the pods that serve a student and are not on their way out."""
    return [
        pod
        for pod in observed.pods
        if pod["metadata"].get("labels", {}).get(COMPONENT_LABEL) == SERVING_COMPONENT
        and not pod["metadata"].get("deletionTimestamp")
        and pod.get("status", {}).get("phase") in ("Pending", "Running")
    ]


def stage_of(job: Manifest) -> str:
    """Return the name of the stage that a Job carries out."""
    return job["metadata"].get("labels", {}).get(STAGE_LABEL, "")
