"""The reasons why a run's pods are stuck, each in a sentence for a person. Pure.

Seen from pods, claims, Jobs and events about them; Secrets are never read.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from distillery.core.api.spec.infrastructure import gpus
from distillery_operator.model import reasons
from distillery_operator.model.names import COMPONENT_LABEL, STAGE_LABEL
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed, job_condition

_STARTING = ("ContainerCreating", "PodInitializing")
"""The reasons to wait that take their time; any other reason is a problem immediately."""

_ANY_TIME = datetime.max.replace(tzinfo=UTC)

MIN_AGE = timedelta(seconds=10)
"""The age below which an object is not reported: volumes and the capacity of terminating pods take a moment, and each
report would cost two writes of the status."""

_MAX_TERMINATION = timedelta(minutes=5)
"""The limit, beyond its grace period, after which a pod that has not ended is on a node that does not answer."""

_SERVERS_HOLD_GPUS = (
    " Servers of the run hold GPUs of that kind: add one, or let them make room by spec.serving.duringRounds: Pause."
)

_MISSING_SECRET = re.compile(
    r'(secret "[^"]+" not found|references non-existent secret key: \S+|couldn\'t find key \S+ in Secret \S+)'
)


@dataclass(frozen=True, slots=True)
class RuntimeProblem:
    """The reason why an object is stuck.

    Attributes:
        reason: one word for programs.
        message: a sentence that names what is stuck, why, and if known the fix.
    """

    reason: str
    message: str


def find_suspects(observed: Observed) -> list[ObjectRef]:
    """Return the objects that may be stuck, whose events show why."""
    suspects: list[Manifest] = [pod for pod in observed.pods if pod.get("status", {}).get("phase") == "Pending"]
    suspects += [claim for claim in observed.claims.values() if claim.get("status", {}).get("phase") != "Bound"]
    suspects += [job for job in observed.jobs.values() if _lacks_pods(job)]
    workloads = (*observed.stateful_sets.values(), *observed.deployments.values())
    suspects += [workload for workload in workloads if not _has_all_pods(workload)]
    return [ObjectRef.to(suspect) for suspect in suspects]


def find_problem(observed: Observed, born: datetime = _ANY_TIME) -> RuntimeProblem | None:
    """Return the most telling problem of what was made no later than ``born``, or None."""
    return next(_problems(observed, born), None)


def find_refusals(observed: Observed) -> Iterator[RuntimeProblem]:
    """Yield the objects that the run needs and that the API server refuses."""
    return (RuntimeProblem(refusal.reason, refusal.message) for refusal in observed.refusals)


def _problems(observed: Observed, born: datetime) -> Iterator[RuntimeProblem]:
    yield from find_refusals(observed)
    for claim in _select_older(observed.claims.values(), born):
        if claim.get("status", {}).get("phase") != "Bound":
            yield from _event_problems(claim, observed, _CLAIM_RULES)
    workloads = (*observed.jobs.values(), *observed.stateful_sets.values(), *observed.deployments.values())
    for workload in _select_older(workloads, born):
        yield from _event_problems(workload, observed, _WORKLOAD_RULES)
    for pod in _select_older(observed.pods, born):
        if pod.get("status", {}).get("phase") not in ("Succeeded", "Failed"):
            yield from _pod_problems(pod, observed, born)


def _select_older(manifests: Iterable[Manifest], born: datetime) -> Iterator[Manifest]:
    return (m for m in manifests if datetime.fromisoformat(m["metadata"]["creationTimestamp"]) <= born)


def _pod_problems(pod: Manifest, observed: Observed, born: datetime) -> Iterator[RuntimeProblem]:
    if "deletionTimestamp" in pod["metadata"]:
        yield from _stuck_terminating(pod, born)
        return
    yield from _unschedulable(pod, observed.pods)
    yield from _waiting_containers(pod)
    yield from _event_problems(pod, observed, _POD_RULES)


def _stuck_terminating(pod: Manifest, born: datetime) -> Iterator[RuntimeProblem]:
    if datetime.fromisoformat(pod["metadata"]["deletionTimestamp"]) + _MAX_TERMINATION <= born:
        node = pod["spec"].get("nodeName", "its node")
        yield RuntimeProblem(
            reasons.Stalled.POD_STUCK_TERMINATING,
            f"A pod of {_describe(pod)} does not end, and takes the place of its successor: {node} does not answer. "
            f"If the node is lost for good, delete it, or the pod: kubectl delete pod {pod['metadata']['name']} "
            "--force",
        )


def _unschedulable(pod: Manifest, pods: Iterable[Manifest]) -> Iterator[RuntimeProblem]:
    for condition in pod.get("status", {}).get("conditions", []):
        unscheduled = condition["type"] == "PodScheduled" and condition["status"] == "False"
        if unscheduled and condition.get("reason") == "Unschedulable":
            holders = _gpu_holders(pod, pods)
            if any(_frees_its_gpu(holder) for holder in holders):
                continue  # the pod gets the GPU then
            fix = _SERVERS_HOLD_GPUS if holders else ""
            message = f"A pod of {_describe(pod)} fits on no node: {condition.get('message', '')}{fix}"
            yield RuntimeProblem(reasons.Stalled.UNSCHEDULABLE, message)


def _waiting_containers(pod: Manifest) -> Iterator[RuntimeProblem]:
    status, owner = pod.get("status", {}), _describe(pod)
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting: dict[str, Any] = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason", "")
        if not reason or reason in _STARTING:
            continue
        ended: dict[str, Any] = container.get("lastState", {}).get("terminated") or {}
        stalled, text = _WAITING_RULES.get(reason, (reason, "The container {name} of {owner} does not start: {why}"))
        yield RuntimeProblem(
            stalled,
            text.format(
                name=container["name"],
                image=container.get("image", ""),
                owner=owner,
                message=waiting.get("message", ""),
                why=waiting.get("message", "") or reason,
                last=ended.get("message") or f"exit code {ended.get('exitCode')}",
            ),
        )


_NO_IMAGE = (reasons.Stalled.IMAGE_NOT_PULLED, "The image {image} of {owner} can't be pulled: {message}")
_WAITING_RULES: Mapping[str, tuple[str, str]] = {
    "ErrImagePull": _NO_IMAGE,
    "ImagePullBackOff": _NO_IMAGE,
    "InvalidImageName": _NO_IMAGE,
    "ErrImageNeverPull": _NO_IMAGE,
    "CrashLoopBackOff": (
        reasons.Stalled.CONTAINER_CRASHING,
        "The container {name} of {owner} keeps ending: {last}",
    ),
}
"""The reason and the message of a problem, by the reason that a container waits for."""


def _event_problems(
    manifest: Manifest, observed: Observed, rules: Mapping[str, Callable[[Manifest, str], RuntimeProblem]]
) -> Iterator[RuntimeProblem]:
    """Yield the problem that the newest event about an object shows, of those that the rules know."""
    for event in reversed(observed.events.get(manifest["metadata"]["uid"], ())):
        if rule := rules.get(event["reason"]):
            yield rule(manifest, event["message"])
            return


def _no_volume(claim: Manifest, message: str) -> RuntimeProblem:
    return RuntimeProblem(
        reasons.Stalled.VOLUME_NOT_PROVISIONED,
        f"The claim {claim['metadata']['name']} gets no volume: {message}. Name a class that exists in "
        "spec.storage.volumeClaim.storageClassName of a new run, or make the class.",
    )


def _no_pods(workload: Manifest, message: str) -> RuntimeProblem:
    return RuntimeProblem(reasons.Stalled.PODS_NOT_CREATED, f"No pod of {_describe(workload)} can be made: {message}")


def _no_mount(pod: Manifest, message: str) -> RuntimeProblem:
    owner = _describe(pod)
    if missing := _MISSING_SECRET.search(message):
        return RuntimeProblem(
            reasons.Stalled.SECRET_KEY_MISSING,
            f"{owner[0].upper()}{owner[1:]} waits for a Secret: {missing[1]}. Make it in this namespace; "
            "the pod then starts by itself.",
        )
    return RuntimeProblem(reasons.Stalled.VOLUME_NOT_MOUNTED, f"A volume of {owner} can't be mounted: {message}")


def _no_sandbox(pod: Manifest, message: str) -> RuntimeProblem:
    return RuntimeProblem(reasons.Stalled.POD_NOT_STARTED, f"A pod of {_describe(pod)} does not start: {message}")


_CLAIM_RULES = {"ProvisioningFailed": _no_volume, "FailedBinding": _no_volume}
_WORKLOAD_RULES = {"FailedCreate": _no_pods, "FailedUpdate": _no_pods}
_POD_RULES = {"FailedMount": _no_mount, "FailedAttachVolume": _no_mount, "FailedCreatePodSandBox": _no_sandbox}
"""The problems that events show, by the reason of the event."""


def _gpu_holders(pod: Manifest, pods: Iterable[Manifest]) -> list[Manifest]:
    """Return the other pods of a run that hold a GPU of the kind that a pod asks for."""
    gpus_of_pod = _gpus_of(pod)
    return [
        other
        for other in pods
        if other is not pod
        and other.get("spec", {}).get("nodeName")
        and other.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        and gpus_of_pod & _gpus_of(other)
    ]


def _gpus_of(pod: Manifest) -> set[str]:
    spec = pod.get("spec", {})
    containers = (*spec.get("initContainers", []), *spec.get("containers", []))
    return {name for container in containers for name in gpus(container.get("resources", {}).get("limits", {}))}


def _frees_its_gpu(pod: Manifest) -> bool:
    """Return whether a pod frees its GPU by itself: a pod of a stage, or one that is being deleted."""
    metadata = pod["metadata"]
    return STAGE_LABEL in metadata.get("labels", {}) or "deletionTimestamp" in metadata


def _lacks_pods(job: Manifest) -> bool:
    status = job.get("status", {})
    ended = job_condition(job, "Complete") or job_condition(job, "Failed")
    return not ended and not job["spec"].get("suspend") and not status.get("active")


def _has_all_pods(workload: Manifest) -> bool:
    status = workload.get("status", {})
    return status.get("replicas", 0) >= workload["spec"].get("replicas", 1)


def _describe(manifest: Manifest) -> str:
    """Return the name of an object in a sentence."""
    labels = manifest["metadata"].get("labels", {})
    if stage := labels.get(STAGE_LABEL):
        return f"stage {stage}"
    component = {"database": "the database", "serving": "the promoted student"}.get(labels.get(COMPONENT_LABEL, ""))
    return component or manifest["metadata"]["name"]
