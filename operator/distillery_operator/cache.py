"""The objects that the watches reported so far: runs, and the objects that belong to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable
from typing import Any

from distillery_operator.model.names import RUN_LABEL
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed

RunKey = tuple[str, str]
"""Namespace and name."""

CHILDREN = (
    ("batch/v1", "Job", "jobs"),
    ("v1", "Pod", "pods"),
    ("v1", "PersistentVolumeClaim", "persistentvolumeclaims"),
    ("apps/v1", "StatefulSet", "statefulsets"),
    ("apps/v1", "Deployment", "deployments"),
)
"""The kinds that are watched, by the label of what the operator manages."""

UNKEPT = (
    ("v1", "Service", "services"),
    ("v1", "ConfigMap", "configmaps"),
    ("v1", "ServiceAccount", "serviceaccounts"),
    ("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies"),
    ("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets"),
)
"""The kinds of which only deletions are watched, and nothing is kept: the operator makes deleted objects again."""


class Cache:
    """Objects by run. Holds only reported objects; may lag behind the API server."""

    def __init__(self) -> None:
        self.runs: dict[RunKey, Manifest] = {}
        self._children: defaultdict[RunKey, dict[tuple[str, str], Manifest]] = defaultdict(dict)
        self._reported: defaultdict[RunKey, dict[tuple[str, str], int]] = defaultdict(dict)
        self._clock = 0

    def keep_run(self, body: Manifest) -> RunKey:
        """Keep a run, and return its key."""
        key = key_of(body)
        self.runs[key] = _without_managers(body)
        return key

    def drop_run(self, body: Manifest) -> RunKey:
        """Drop a run that is gone, and return its key."""
        key = key_of(body)
        self.runs.pop(key, None)
        if key not in self._children:
            self._reported.pop(key, None)
        return key

    def keep(self, child: Manifest) -> RunKey | None:
        """Keep an object, and return the key of the run that it belongs to; None if it belongs to none."""
        key = owner_of(child)
        if key:
            self._children[key][self._note(key, child)] = _without_managers(child)
        return key

    def drop(self, child: Manifest) -> RunKey | None:
        """Drop an object that is gone, and return the key of its run; None if it belonged to none."""
        key = owner_of(child)
        if key:
            self._children[key].pop(self._note(key, child), None)
            if not self._children[key]:
                del self._children[key]
                if key not in self.runs:
                    self._reported.pop(key, None)
        return key

    def _note(self, key: RunKey, child: Manifest) -> tuple[str, str]:
        """Note that a watch reports an object now, and return its kind and name."""
        named = (child["kind"], child["metadata"]["name"])
        self._clock += 1
        self._reported[key][named] = self._clock
        return named

    @property
    def moment(self) -> int:
        """A counter of the reported objects, which orders them in time."""
        return self._clock

    def replace(self, key: RunKey, children: Iterable[Manifest], *, since: int) -> None:
        """Replace all objects of a run by those that the API server listed.

        Args:
            key: the run.
            children: its objects.
            since: the :attr:`moment` when listing them began. Objects that watches reported later are newer.
        """
        later = {named for named, moment in self._reported.pop(key, {}).items() if moment > since}
        listed = {(child["kind"], child["metadata"]["name"]): _without_managers(child) for child in children}
        newer = self._children.get(key, {})
        self._children[key] = {named: child for named, child in listed.items() if named not in later} | {
            named: child for named, child in newer.items() if named in later
        }

    def observe(self, key: RunKey, uid: str) -> Observed:
        """Return the known objects of a run of this uid. Objects of an earlier run of its name are not its own."""
        children = self._children.get(key, {}).values()
        mine = [c for c in children if c["kind"] != "Pod" and _belongs(c, uid)]
        workloads = {(c["kind"], c["metadata"]["uid"]) for c in mine}
        deployments = {c["metadata"]["name"] for c in mine if c["kind"] == "Deployment"}

        def select(kind: str) -> dict[str, Manifest]:
            return {c["metadata"]["name"]: c for c in mine if c["kind"] == kind}

        return Observed(
            jobs=select("Job"),
            pods=tuple(c for c in children if c["kind"] == "Pod" and _is_pod_of(c, workloads, deployments)),
            claims=select("PersistentVolumeClaim"),
            stateful_sets=select("StatefulSet"),
            deployments=select("Deployment"),
        )


def key_of(body: Manifest) -> RunKey:
    """Return the key of a run."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _without_managers(thing: Manifest) -> Manifest:
    """Return an object without ``managedFields``, often half of its size, which the operator does not read."""
    metadata = {key: value for key, value in thing["metadata"].items() if key != "managedFields"}
    return {**thing, "metadata": metadata}


def owner_of(child: Manifest) -> RunKey | None:
    """Return the key of the run that an object is labeled with."""
    metadata: dict[str, Any] = child["metadata"]
    name = metadata.get("labels", {}).get(RUN_LABEL)
    return (metadata["namespace"], name) if name else None


def _belongs(child: Manifest, uid: str) -> bool:
    """Return whether an object is the run's own. One that no run owns is a claim that outlives its run."""
    owners = child["metadata"].get("ownerReferences", [])
    runs = [owner for owner in owners if owner["kind"] == "DistillationRun"]
    return not runs or any(owner["uid"] == uid for owner in runs)


def _is_pod_of(pod: Manifest, workloads: Collection[tuple[str, str]], deployments: Collection[str]) -> bool:
    """Return whether a pod was made for one of the workloads. Labels prove nothing: any user may set them.

    ReplicaSets are not watched; they are named after their Deployments.
    """
    owner = next((o for o in pod["metadata"].get("ownerReferences", []) if o.get("controller")), None)
    if owner is None:
        return False
    of_deployment = owner["kind"] == "ReplicaSet" and owner["name"].rpartition("-")[0] in deployments
    return of_deployment or (owner["kind"], owner["uid"]) in workloads
