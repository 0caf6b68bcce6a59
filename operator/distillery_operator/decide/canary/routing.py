"""The student to serve, and the replicas that serve it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from distillery.core.api import Spec
from distillery.core.planner import Model, Plan
from distillery.core.planner.graph import BASE, candidate_of
from distillery_operator.crd.status_schema import MAX_HISTORY
from distillery_operator.manifests import gateway, servers
from distillery_operator.manifests.names import STUDENT_LABEL, RunRef, student_label
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed, serving_pods


class NoSuchStudent(Exception):
    """The absence of a student: the round that is to be served has none, or none yet."""


@dataclass(frozen=True, slots=True)
class Choice:
    """The student to serve.

    Attributes:
        model: a student, or the base model.
        digest: of the student's adapter; empty for the base model.
        round: that the student is of; 0 for the base model.
        reason: one sentence.
    """

    model: Model
    digest: str
    round: int
    reason: str

    @property
    def student(self) -> str:
        """The student's name in the status and on labels."""
        return student_label(self.digest)

    @property
    def called(self) -> str:
        """The student's name in a sentence."""
        return f"student {self.student}" if self.digest else "the base model"


def choose(
    spec: Spec, current: Plan, status: Mapping[str, Any], *, pinned_by: str = "spec.serving.pinnedRound"
) -> Choice | None:
    """Return the student that the user pinned, or else the student promoted last; None if there is neither.

    Once something is served, the base model takes the place of a missing student.

    Args:
        spec: the run's.
        current: the planner's plan.
        status: of the run, with the rounds that ended.
        pinned_by: the field or annotation that names the round.

    Raises:
        NoSuchStudent: the user pinned a student that does not exist.
    """
    pinned = spec.serving.pinned_round
    if pinned == 0:
        return Choice(BASE, "", 0, f"{pinned_by} is 0, the base model.")
    promoted = current.serving.trained_by
    number = pinned if pinned is not None else promoted.round if promoted else None
    if number is None:
        return Choice(BASE, "", 0, "No student was promoted.") if "serving" in status else None
    ended = next((r for r in status["rounds"] if r["round"] == number), None)
    if ended is None or not ended.get("student"):
        why = "has not ended" if ended is None else "trained no student"
        raise NoSuchStudent(f"{pinned_by} is {number}, and that round {why}: what was served is served on.")
    reason = ended.get("reason", "") if pinned is None else f"{pinned_by} is {number}."
    return Choice(candidate_of(number), ended["student"], number, reason)


def recorded(
    history: Iterable[Mapping[str, Any]], choice: Choice, now: str, *, taken_back: str = ""
) -> list[dict[str, Any]]:
    """Return the history of what was served, the newest first, with the present choice in front.

    Args:
        history: so far.
        choice: what is served.
        now: the time.
        taken_back: why a canary was just rolled back, which is worth another entry.
    """
    kept = [dict(entry) for entry in history]
    if kept and not taken_back and (kept[0]["student"], kept[0]["round"]) == (choice.student, choice.round):
        return kept
    reason = (taken_back or choice.reason)[:1024]
    made = {"student": choice.student, "round": choice.round, "reason": reason, "time": now}
    return [made, *kept][:MAX_HISTORY]


@dataclass(frozen=True, slots=True)
class Rollout:
    """The progress of the servers toward a choice.

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


def rollout(owner: RunRef, choice: Choice, generation: int, observed: Observed) -> Rollout:
    """Return the progress of the servers toward a choice.

    Merged weights are there where the Deployment's pods are; with adapters every pod says itself what it serves.

    Args:
        owner: the run.
        choice: what is to be served.
        generation: of the document that says so.
        observed: the run's objects.
    """
    spec = owner.run.spec
    deployment, wanted = observed.deployments.get(owner.name), spec.serving.replicas
    available = deployment is not None and _is_available(deployment, wanted)
    pods: int = deployment.get("status", {}).get("replicas", 0) if deployment else 0
    if not servers.serves_adapters(spec):
        ready = deployment.get("status", {}).get("readyReplicas", 0) if deployment else 0
        return Rollout(ready, holds(deployment, choice, wanted), available, pods=pods)
    names = {pod["metadata"]["name"] for pod in serving_pods(observed)}
    there = {name for name in names if observed.generations.get(name) == generation}
    problems = (observed.problems.get(name, "") for name in sorted(names - there))
    return Rollout(len(there), available and there == names, available, next(filter(None, problems), ""), pods)


def holds(deployment: Manifest | None, choice: Choice, wanted: int) -> bool:
    """Return whether all pods of a Deployment that stays are available, and hold the merged weights of a student."""
    if deployment is None or deployment["metadata"].get("deletionTimestamp"):
        return False
    if not _is_available(deployment, wanted):
        return False
    return deployment["spec"]["template"]["metadata"]["labels"].get(STUDENT_LABEL) == choice.student


def to_annotate(generation: int, observed: Observed) -> list[Manifest]:
    """Return the serving pods whose annotation does not have the routing document's generation yet."""
    return [pod for pod in serving_pods(observed) if told_generation(pod) != generation]


def to_ask(observed: Observed, said: Mapping[str, int], *, trial: bool = False) -> list[Manifest]:
    """Return the pods to poll for what they serve: those with adapters that have not confirmed their generation.

    Args:
        observed: the run's objects.
        said: the generations that pods reported, by their uids.
        trial: a canary is analyzed: all pods are polled, for their generation and their traffic.
    """
    return [
        pod
        for pod in serving_pods(observed)
        if pod["status"].get("podIP")
        and (told := told_generation(pod))
        and (trial or (has_syncer(pod) and said.get(pod["metadata"]["uid"]) != told))
    ]


def has_syncer(pod: Manifest) -> bool:
    """Return whether the students of a serving pod, or of the pods of a template, are adapters."""
    return any(container["name"] == gateway.SYNCER for container in pod["spec"].get("initContainers", []))


def told_generation(pod: Manifest) -> int:
    """Return the generation in a serving pod's annotation; 0 for none."""
    told = pod["metadata"].get("annotations", {}).get(gateway.GENERATION, "")
    return int(told) if told.isdigit() else 0


def _is_available(deployment: Manifest, wanted: int) -> bool:
    """All replicas are of the present template, and available."""
    told = deployment.get("status", {})
    return (
        told.get("observedGeneration", 0) >= deployment["metadata"].get("generation", 0)
        and told.get("updatedReplicas", 0) >= wanted
        and told.get("availableReplicas", 0) >= wanted
        and told.get("replicas", 0) == wanted
    )
