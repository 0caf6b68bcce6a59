"""Objects of Kubernetes as dicts, and how they are named."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Self

Manifest = dict[str, Any]

_PLURALS = {
    "ServiceAccount": "serviceaccounts",
    "ConfigMap": "configmaps",
    "Secret": "secrets",
    "Service": "services",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "Pod": "pods",
    "Event": "events",
    "Job": "jobs",
    "Deployment": "deployments",
    "StatefulSet": "statefulsets",
    "NetworkPolicy": "networkpolicies",
    "Lease": "leases",
    "PodDisruptionBudget": "poddisruptionbudgets",
    "DistillationRun": "distillationruns",
}


@dataclass(frozen=True, slots=True)
class ObjectRef:
    """The name of an object in the API."""

    api_version: str
    kind: str
    namespace: str
    name: str

    @classmethod
    def to(cls, manifest: Manifest) -> Self:
        """Return the reference to the object that a manifest describes."""
        metadata = manifest["metadata"]
        return cls(manifest["apiVersion"], manifest["kind"], metadata["namespace"], metadata["name"])

    @property
    def collection(self) -> str:
        """The path of its kind in its namespace."""
        group = "api" if "/" not in self.api_version else "apis"
        return f"/{group}/{self.api_version}/namespaces/{self.namespace}/{_PLURALS[self.kind]}"

    @property
    def path(self) -> str:
        """The path of the object."""
        return f"{self.collection}/{self.name}"


def stranger(thing: Manifest, wanted: Manifest) -> str:
    """Return who owns an object with the name of one that a run wants; empty where it is the run's own.

    Own is what has the same controller. What is wanted without one (a volume that outlives its run) is own if it has
    the run's labels and no other controller.
    """
    theirs, ours = _controller(thing), _controller(wanted)
    if theirs and theirs == ours:
        return ""
    labels, wanted_labels = thing["metadata"].get("labels", {}), wanted["metadata"].get("labels", {})
    if not theirs and not ours and wanted_labels.items() <= labels.items():
        return ""
    return f"the {theirs[0]} {theirs[1]}" if theirs else "somebody else"


def _controller(thing: Manifest) -> tuple[str, str, str] | None:
    owners = thing["metadata"].get("ownerReferences", [])
    return next(((o["kind"], o["name"], o["uid"]) for o in owners if o.get("controller")), None)


def address(pod: Manifest) -> str:
    """Return a pod's host as a URL has it."""
    ip: str = pod["status"]["podIP"]
    return f"[{ip}]" if ":" in ip else ip


def rfc3339(time: datetime) -> str:
    """Return a time as objects have it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
