"""The observed state of a run: its objects, and the states of its stages by them. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from distillery.core.api import Spec
from distillery.core.contracts.stage_result import read
from distillery.core.planner import Kind, StageId, StageState
from distillery.core.planner.graph import BASE, PREPARE, candidate_of, round_stages
from distillery_operator.decide.canary.analysis import Counts
from distillery_operator.manifests.gateway import SERVING
from distillery_operator.manifests.names import COMPONENT_LABEL, FETCH_CONTAINER, STAGE_LABEL, WORKER_CONTAINER
from distillery_operator.model.objects import Manifest

_JOB_LABEL = "batch.kubernetes.io/job-name"

_LAG = timedelta(minutes=2)
"""That a watch may lag behind; in that time all objects of an active run are listed twice."""


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
        problems: why serving pods can't serve what they should, in their words, by the name of the pod.
        failures: failed sessions of users that no round has learned from, if a run waits for them.
        live: the traffic counts of the students that they serve, by the name of the pod and the label of the student.
        silence: seconds since the last report of a serving pod; of those that were polled.
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
    live: Mapping[str, Mapping[str, Counts]] = field(default_factory=dict)
    silence: float = 0.0
    refusals: tuple[Refusal, ...] = ()

    def pods_of(self, job: str) -> list[Manifest]:
        """Return the pods of a Job."""
        return [pod for pod in self.pods if pod["metadata"].get("labels", {}).get(_JOB_LABEL) == job]


def job_condition(job: Manifest, kind: str) -> Mapping[str, Any] | None:
    """Return a condition of a Job if it is true, else None."""
    conditions = job.get("status", {}).get("conditions", [])
    return next((c for c in conditions if c["type"] == kind and c["status"] == "True"), None)


def word_of(pods: Iterable[Manifest], *, attempt: int) -> StageState | None:
    """Return how a stage ended, as its workers say: the first that succeeded, else the last that said why not."""
    said = None
    for pod in pods:
        for status in pod.get("status", {}).get("containerStatuses", []):
            ended = status.get("state", {}).get("terminated") or status.get("lastState", {}).get("terminated")
            if status["name"] == WORKER_CONTAINER and ended:
                state = read(ended.get("message", ""), attempt=attempt)
                if state and state.phase == "succeeded":
                    return state
                said = state or said
    return said


def _last_words(pods: Iterable[Manifest]) -> str:
    """Why the first model could not be fetched, where no worker started."""
    for pod in pods:
        for status in pod.get("status", {}).get("initContainerStatuses", []):
            ended: Mapping[str, Any] = status.get("state", {}).get("terminated") or {}
            if status["name"] == FETCH_CONTAINER and ended.get("exitCode"):
                return str(ended.get("message", "")).strip()
    return ""


def state_of_job(
    job: Manifest, pods: Sequence[Manifest], *, attempt: int, timeout_field: str, now: datetime
) -> StageState:
    """Return the state of a stage by its Job. Kubernetes retried already: a failure is final.

    Jobs and pods are watched apart: what is known of pods may be older than the end of their Job, and then they are
    waited for.
    """
    word = word_of(pods, attempt=attempt)
    if complete := job_condition(job, "Complete"):
        if word and word.phase == "succeeded":
            return word
        if any(pod.get("status", {}).get("phase") not in ("Succeeded", "Failed") for pod in pods):
            return StageState("running", attempt)
        ended = complete.get("lastTransitionTime")
        if not pods and ended and now - datetime.fromisoformat(ended) < _LAG:
            return StageState("running", attempt)
        message = "its Job is complete, and no pod is left to report the result"
        return StageState("failed", attempt, permanent=True, message=message)
    failed = job_condition(job, "Failed")
    if failed:
        if word and word.phase == "succeeded":
            return word  # a worker ends well once nothing of the stage is left to do: one is enough
        if failed.get("reason") == "DeadlineExceeded":
            message = f"took longer than {timeout_field}"
        else:
            message = (
                word.message if word and word.phase == "failed" else _last_words(pods) or failed.get("message", "")
            )
        return StageState("failed", attempt, permanent=True, message=message)
    return StageState("running", attempt)


def is_result_lost(job: Manifest, state: StageState) -> bool:
    """Return whether a stage counts as failed only because its Job is complete and no pod can report the result."""
    return state.phase == "failed" and job_condition(job, "Complete") is not None


def recorded_states(spec: Spec, status: Mapping[str, Any]) -> dict[StageId, StageState]:
    """Return the states of stages by the status: what was recorded there once is not asked for again.

    Of rounds that ended only the verdict is kept; all their stages succeeded.
    """
    states: dict[StageId, StageState] = {}
    serving = BASE
    for ended in status.get("rounds", []):
        number = ended["round"]
        for stage in round_stages(spec, number, serving):
            states[stage.id] = StageState("succeeded", result={"student": ended.get("student")})
        promote = StageId(number, Kind.PROMOTE)
        gate = {"verdict": ended["verdict"], "reason": ended.get("reason", "")}
        result = {"gate": gate, "promoted": ended["promoted"], "metric": ended.get("metricValue", 0.0)}
        states[promote] = StageState("succeeded", result=result)
        if ended["promoted"]:
            serving = candidate_of(number)
    if states:
        states[PREPARE] = StageState("succeeded", result={})
    for record in status.get("stages", []):
        sid = StageId.parse(record["name"])
        attempts = record.get("attempts", 1)
        match record["phase"]:
            case "Succeeded":
                states[sid] = StageState("succeeded", attempts, result=record.get("result", {}))
            case "Failed":
                message = record.get("message", "")
                states[sid] = StageState("failed", attempts, permanent=True, message=message)
            case _:
                pass
    return states


def serving_pods(observed: Observed) -> list[Manifest]:
    """Return the pods that serve a student and are not on their way out."""
    return [
        pod
        for pod in observed.pods
        if pod["metadata"].get("labels", {}).get(COMPONENT_LABEL) == SERVING.component
        and not pod["metadata"].get("deletionTimestamp")
        and pod.get("status", {}).get("phase") in ("Pending", "Running")
    ]


def stage_of(job: Manifest) -> str:
    """Return the name of the stage that a Job carries out."""
    return job["metadata"].get("labels", {}).get(STAGE_LABEL, "")
