"""The reasons why a run's pods are stuck, each in a sentence for a person. Pure.

Seen from pods, claims, Jobs and events about them; Secrets are never read.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from distillery.core.api.spec.infrastructure import gpus
from distillery_operator.manifests.names import COMPONENT_LABEL, STAGE_LABEL
from distillery_operator.model import reasons
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.model.observed import Observed, job_condition

# Waiting for these takes its time; anything else that a container waits for is a problem at once.
_PATIENCE = ("ContainerCreating", "PodInitializing")

_ANY_TIME = datetime.max.replace(tzinfo=UTC)

YOUTH = timedelta(seconds=10)
"""The age below which an object is not reported: a volume that is not there yet, or capacity that a terminating pod
still takes, is no news, and each would cost two writes of the status."""

_LEAVING = timedelta(minutes=5)
"""Beyond its grace period, after which a pod that has not ended is on a node that does not answer."""

_SERVERS_HOLD_GPUS = (
    " Servers of the run hold GPUs of that kind: add one, or let them make room by spec.serving.duringRounds: Pause."
)

_SECRET = re.compile(
    r'(secret "[^"]+" not found|references non-existent secret key: \S+|couldn\'t find key \S+ in Secret \S+)'
)


@dataclass(frozen=True, slots=True)
class Problem:
    """The reason why an object is stuck.

    Attributes:
        reason: one word for programs.
        message: a sentence that names what is stuck, why, and if known the fix.
    """

    reason: str
    message: str


def suspects(observed: Observed) -> list[ObjectRef]:
    """Return the objects that may be stuck: the events about them are worth a look."""
    found: list[Manifest] = [pod for pod in observed.pods if pod.get("status", {}).get("phase") == "Pending"]
    found += [c for c in observed.claims.values() if c.get("status", {}).get("phase") != "Bound"]
    found += [job for job in observed.jobs.values() if _is_short_of_pods(job)]
    found += [s for s in (*observed.stateful_sets.values(), *observed.deployments.values()) if not _has_pods(s)]
    return [ObjectRef(o["apiVersion"], o["kind"], o["metadata"]["namespace"], o["metadata"]["name"]) for o in found]


def find_problem(observed: Observed, born: datetime = _ANY_TIME) -> Problem | None:
    """Return the most telling problem of what was made no later than ``born``, or None."""
    return next(_problems(observed, born), None)


def find_refusals(observed: Observed) -> Iterator[Problem]:
    """Yield the objects that the run needs and that the API server refuses."""
    return (Problem(refusal.reason, refusal.message) for refusal in observed.refusals)


def _problems(observed: Observed, born: datetime) -> Iterator[Problem]:
    yield from find_refusals(observed)
    for claim in _grown(observed.claims.values(), born):
        if claim.get("status", {}).get("phase") == "Bound":
            continue
        for event in reversed(observed.events.get(claim["metadata"]["uid"], ())):
            if event["reason"] in ("ProvisioningFailed", "FailedBinding"):
                name = claim["metadata"]["name"]
                yield Problem(
                    reasons.Stalled.VOLUME_NOT_PROVISIONED,
                    f"The claim {name} gets no volume: {event['message']}. Name a class that exists in "
                    "spec.storage.volumeClaim.storageClassName of a new run, or make the class.",
                )
                break
    workloads = (*observed.jobs.values(), *observed.stateful_sets.values(), *observed.deployments.values())
    for owner in _grown(workloads, born):
        for event in reversed(observed.events.get(owner["metadata"]["uid"], ())):
            if event["reason"] in ("FailedCreate", "FailedUpdate"):
                yield Problem(
                    reasons.Stalled.PODS_NOT_CREATED, f"No pod of {_who(owner)} can be made: {event['message']}"
                )
                break
    for pod in _grown(observed.pods, born):
        yield from _problems_of_pod(pod, observed, born)


def _grown(things: Iterable[Manifest], born: datetime) -> Iterator[Manifest]:
    return (t for t in things if datetime.fromisoformat(t["metadata"]["creationTimestamp"]) <= born)


def _problems_of_pod(pod: Manifest, observed: Observed, born: datetime) -> Iterator[Problem]:
    status, who = pod.get("status", {}), _who(pod)
    events = observed.events.get(pod["metadata"]["uid"], ())
    if status.get("phase") in ("Succeeded", "Failed"):
        return
    if leaves := pod["metadata"].get("deletionTimestamp"):  # when it should have been gone at the latest
        if datetime.fromisoformat(leaves) + _LEAVING <= born:
            node = pod["spec"].get("nodeName", "its node")
            yield Problem(
                reasons.Stalled.POD_STUCK_TERMINATING,
                f"A pod of {who} does not end, and takes the place of its successor: {node} does not answer. If the "
                f"node is lost for good, delete it, or the pod: kubectl delete pod {pod['metadata']['name']} --force",
            )
        return
    for condition in status.get("conditions", []):
        unscheduled = condition["type"] == "PodScheduled" and condition["status"] == "False"
        if unscheduled and condition.get("reason") == "Unschedulable":
            holders = _gpu_holders(pod, observed.pods)
            if any(_leaves(holder) for holder in holders):
                continue  # it gets the GPU then
            fix = _SERVERS_HOLD_GPUS if holders else ""
            yield Problem(
                reasons.Stalled.UNSCHEDULABLE, f"A pod of {who} fits on no node: {condition.get('message', '')}{fix}"
            )
    for container in (*status.get("initContainerStatuses", []), *status.get("containerStatuses", [])):
        waiting: dict[str, Any] = container.get("state", {}).get("waiting") or {}
        reason, message = waiting.get("reason", ""), waiting.get("message", "")
        if not reason or reason in _PATIENCE:
            continue
        if reason in ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"):
            yield Problem(
                reasons.Stalled.IMAGE_NOT_PULLED, f"The image {container['image']} of {who} can't be pulled: {message}"
            )
        elif reason == "CrashLoopBackOff":
            ended: dict[str, Any] = container.get("lastState", {}).get("terminated") or {}
            last = ended.get("message") or f"exit code {ended.get('exitCode')}"
            yield Problem(
                reasons.Stalled.CONTAINER_CRASHING, f"The container {container['name']} of {who} keeps ending: {last}"
            )
        else:
            yield Problem(reason, f"The container {container['name']} of {who} does not start: {message or reason}")
    for event in reversed(events):
        if event["reason"] in ("FailedMount", "FailedAttachVolume"):
            missing = _SECRET.search(event["message"])
            if missing:
                yield Problem(
                    reasons.Stalled.SECRET_KEY_MISSING,
                    f"{who[0].upper()}{who[1:]} waits for a Secret: {missing[1]}. Make it in this namespace; "
                    "the pod then starts by itself.",
                )
            else:
                yield Problem(
                    reasons.Stalled.VOLUME_NOT_MOUNTED, f"A volume of {who} can't be mounted: {event['message']}"
                )
            return
        if event["reason"] == "FailedCreatePodSandBox":
            yield Problem(reasons.Stalled.POD_NOT_STARTED, f"A pod of {who} does not start: {event['message']}")
            return


def _gpu_holders(pod: Manifest, pods: Iterable[Manifest]) -> list[Manifest]:
    """The other pods of a run that hold a GPU of the kind that a pod asks for."""
    wanted = _gpus_of(pod)
    return [
        other
        for other in pods
        if other is not pod
        and other.get("spec", {}).get("nodeName")
        and other.get("status", {}).get("phase") not in ("Succeeded", "Failed")
        and wanted & _gpus_of(other)
    ]


def _gpus_of(pod: Manifest) -> set[str]:
    spec = pod.get("spec", {})
    containers = (*spec.get("initContainers", []), *spec.get("containers", []))
    return {name for container in containers for name in gpus(container.get("resources", {}).get("limits", {}))}


def _leaves(pod: Manifest) -> bool:
    """Whether a pod gives its GPU back by itself: one of a stage, or one that is on its way out."""
    metadata = pod["metadata"]
    return STAGE_LABEL in metadata.get("labels", {}) or "deletionTimestamp" in metadata


def _is_short_of_pods(job: Manifest) -> bool:
    status = job.get("status", {})
    ended = job_condition(job, "Complete") or job_condition(job, "Failed")
    return not ended and not job["spec"].get("suspend") and not status.get("active")


def _has_pods(workload: Manifest) -> bool:
    status = workload.get("status", {})
    return status.get("replicas", 0) >= workload["spec"].get("replicas", 1)


def _who(thing: Manifest) -> str:
    """What an object is, as a person calls it."""
    labels = thing["metadata"].get("labels", {})
    if stage := labels.get(STAGE_LABEL):
        return f"stage {stage}"
    component = {"database": "the database", "serving": "the promoted student"}.get(labels.get(COMPONENT_LABEL, ""))
    return component or thing["metadata"]["name"]
