"""The pods that serve a student: how many serve it, which have an old generation, and which to poll. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distillery_operator.decide.canary.target import ServingTarget
from distillery_operator.manifests import gateway, servers
from distillery_operator.model.names import STUDENT_LABEL, RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed, serving_pods


@dataclass(frozen=True, slots=True)
class RolloutStatus:
    """The progress of the servers toward a student.

    Attributes:
        replicas: that serve it.
        complete: all do, and none serves anything else.
        available: as many pods as there should be can answer, with whatever they serve.
        problem: why one of the others does not, if it says so.
        pods: that there are, whatever they serve.
    """

    replicas: int
    complete: bool
    available: bool
    problem: str = ""
    pods: int = 0


def observe_rollout(owner: RunRef, target: ServingTarget, generation: int, observed: Observed) -> RolloutStatus:
    """Return the progress of the servers toward a student.

    Merged weights are there where the Deployment's pods are; with adapters every pod reports itself what it serves.

    Args:
        owner: the run.
        target: the student to serve.
        generation: of the routing document that names the student.
        observed: the run's objects.
    """
    spec = owner.run.spec
    deployment, replicas = observed.deployments.get(owner.name), spec.serving.replicas
    available = deployment is not None and _is_available(deployment, replicas)
    pods: int = deployment.get("status", {}).get("replicas", 0) if deployment else 0
    if not servers.serves_adapters(spec):
        ready = deployment.get("status", {}).get("readyReplicas", 0) if deployment else 0
        return RolloutStatus(ready, serves(deployment, target, replicas), available, pods=pods)
    names = {pod["metadata"]["name"] for pod in serving_pods(observed)}
    ready_names = {name for name in names if observed.generations.get(name) == generation}
    problems = (observed.problems.get(name, "") for name in sorted(names - ready_names))
    complete = available and ready_names == names
    return RolloutStatus(len(ready_names), complete, available, next(filter(None, problems), ""), pods)


def serves(deployment: Manifest | None, target: ServingTarget, replicas: int) -> bool:
    """Return whether all pods of a Deployment that stays are available, and hold the merged weights of a student."""
    if deployment is None or deployment["metadata"].get("deletionTimestamp"):
        return False
    if not _is_available(deployment, replicas):
        return False
    return deployment["spec"]["template"]["metadata"]["labels"].get(STUDENT_LABEL) == target.student


def list_outdated_pods(generation: int, observed: Observed) -> list[Manifest]:
    """Return the serving pods whose annotation does not have the routing document's generation yet."""
    return [pod for pod in serving_pods(observed) if read_generation(pod) != generation]


def list_pods_to_poll(
    observed: Observed, reported: Mapping[str, int], *, canary_in_progress: bool = False
) -> list[Manifest]:
    """Return the pods to poll for what they serve: those with adapters that have not confirmed their generation.

    Args:
        observed: the run's objects.
        reported: the generations that pods reported, by their uids.
        canary_in_progress: all pods are polled, for their generation and their traffic.
    """
    return [
        pod
        for pod in serving_pods(observed)
        if pod["status"].get("podIP")
        and (generation := read_generation(pod))
        and (canary_in_progress or (has_syncer(pod) and reported.get(pod["metadata"]["uid"]) != generation))
    ]


def has_syncer(pod: Manifest) -> bool:
    """Return whether the students of a serving pod, or of the pods of a template, are adapters."""
    return any(container["name"] == gateway.SYNCER for container in pod["spec"].get("initContainers", []))


def read_generation(pod: Manifest) -> int:
    """Return the generation in a serving pod's annotation; 0 for none."""
    annotation = pod["metadata"].get("annotations", {}).get(gateway.GENERATION, "")
    return int(annotation) if annotation.isdigit() else 0


def _is_available(deployment: Manifest, replicas: int) -> bool:
    """Return whether all replicas are of the present template, and available."""
    status = deployment.get("status", {})
    return (
        status.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and status.get("updatedReplicas", 0) >= replicas
        and status.get("availableReplicas", 0) >= replicas
        and status.get("replicas", 0) == replicas
    )
