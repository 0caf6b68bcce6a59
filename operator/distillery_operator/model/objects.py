"""Objects of Kubernetes as dicts, and their names."""

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


def find_other_owner(present: Manifest, manifest: Manifest) -> str:
    """Return the owner of an object with the name of one that a run needs; empty if the object is the run's own.

    Own is an object with the same controller. A manifest without a controller, such as a volume that outlives its run,
    is of an object with the run's labels and no other controller.
    """
    theirs, ours = _controller(present), _controller(manifest)
    if theirs and theirs == ours:
        return ""
    labels, own_labels = present["metadata"].get("labels", {}), manifest["metadata"].get("labels", {})
    if not theirs and not ours and own_labels.items() <= labels.items():
        return ""
    return f"the {theirs[0]} {theirs[1]}" if theirs else "somebody else"


def _controller(manifest: Manifest) -> tuple[str, str, str] | None:
    owners = manifest["metadata"].get("ownerReferences", [])
    return next(((o["kind"], o["name"], o["uid"]) for o in owners if o.get("controller")), None)


def address(pod: Manifest) -> str:
    """Return the host of a pod, as in a URL."""
    ip: str = pod["status"]["podIP"]
    return f"[{ip}]" if ":" in ip else ip


def rfc3339(time: datetime) -> str:
    """Return a time as the API server writes it."""
    return time.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
