"""What the watches told so far: runs, and the objects that belong to them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable
from typing import Any

from distillery_operator.manifests.names import RUN_LABEL
from distillery_operator.objects import Object
from distillery_operator.observed import Observed

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


class Cache:
    """Objects by run. Knows nothing but what it is told; may lag behind the API server."""

    def __init__(self) -> None:
        self.runs: dict[RunKey, Object] = {}
        self._children: defaultdict[RunKey, dict[tuple[str, str], Object]] = defaultdict(dict)

    def keep_run(self, body: Object) -> RunKey:
        """A run is there."""
        key = key_of(body)
        self.runs[key] = _without_managers(body)
        return key

    def drop_run(self, body: Object) -> RunKey:
        """A run is gone."""
        key = key_of(body)
        self.runs.pop(key, None)
        return key

    def keep(self, child: Object) -> RunKey | None:
        """An object of a run is there; the run's key, if the object belongs to one."""
        key = _owner_of(child)
        if key:
            self._children[key][child["kind"], child["metadata"]["name"]] = _without_managers(child)
        return key

    def drop(self, child: Object) -> RunKey | None:
        """An object is gone."""
        key = _owner_of(child)
        if key:
            self._children[key].pop((child["kind"], child["metadata"]["name"]), None)
            if not self._children[key]:
                del self._children[key]
        return key

    def replace(self, key: RunKey, children: Iterable[Object]) -> None:
        """All that a run has, as the API server lists it now."""
        self._children[key] = {
            (child["kind"], child["metadata"]["name"]): _without_managers(child) for child in children
        }

    def observed(self, key: RunKey, uid: str) -> Observed:
        """What is known of a run of this uid. What an earlier run of its name left behind is not its own."""
        mine = [c for c in self._children.get(key, {}).values() if _belongs(c, uid)]

        def named(kind: str) -> dict[str, Object]:
            return {c["metadata"]["name"]: c for c in mine if c["kind"] == kind}

        return Observed(
            jobs=named("Job"),
            pods=tuple(c for c in mine if c["kind"] == "Pod"),
            claims=named("PersistentVolumeClaim"),
            stateful_sets=named("StatefulSet"),
            deployments=named("Deployment"),
        )


def key_of(body: Object) -> RunKey:
    """The key of a run."""
    return body["metadata"]["namespace"], body["metadata"]["name"]


def _without_managers(thing: Object) -> Object:
    """An object without the account of who set which field, often half of its size, which nobody here reads."""
    metadata = {key: value for key, value in thing["metadata"].items() if key != "managedFields"}
    return {**thing, "metadata": metadata}


def _owner_of(child: Object) -> RunKey | None:
    metadata: dict[str, Any] = child["metadata"]
    name = metadata.get("labels", {}).get(RUN_LABEL)
    return (metadata["namespace"], name) if name else None


def _belongs(child: Object, uid: str) -> bool:
    """Whether an object is the run's own, or that of one that is: pods, and claims that outlive their runs."""
    owners = child["metadata"].get("ownerReferences", [])
    runs = [owner for owner in owners if owner["kind"] == "DistillationRun"]
    return not runs or any(owner["uid"] == uid for owner in runs)
