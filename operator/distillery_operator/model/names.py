"""Names and labels of what belongs to a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from distillery.core.api import GROUP, RUN_LABEL, DistillationRun
from distillery.core.api import STAGE_LABEL as STAGE_LABEL  # with the other names of what belongs to a run
from distillery.core.api.learned import digest_of_learned
from distillery.core.artifacts.identity import Identity

MANAGED_BY = {"app.kubernetes.io/managed-by": "distillery"}
INSTANCE_LABEL = f"{GROUP}/controller-instance-id"
"""On a run: which of several operators of its namespace acts on it."""

LEARNED_LABEL = f"{GROUP}/learned"
"""On a stage's Job: the first digits of the digest of what the run learned when it was created."""

WORKER_CONTAINER, FETCH_CONTAINER = "worker", "fetch"
"""Containers of a stage's pods: the stage itself, and the download of its model."""

VOLUME_LABEL = f"{GROUP}/volume"
"""On pods that mount the run's volume, and on no others: where one of them is, the others have to be."""

STUDENT_LABEL = f"{GROUP}/student"
COMPONENT_LABEL = "app.kubernetes.io/component"
SERVING_COMPONENT = "serving"
"""The component of the servers that clients reach."""


@dataclass(frozen=True, slots=True)
class RunRef:
    """A run as the API server knows it: what everything that belongs to it is named and owned by.

    Attributes:
        run: the resource.
        uid: of it.
        learned: the digest of what it learns, as its status keeps it once that can't change any more: another release
            may compute it otherwise. Empty before.
    """

    run: DistillationRun
    uid: str
    learned: str = ""

    @property
    def identity(self) -> Identity:
        """The identity of the run in its artifacts."""
        return Identity(self.uid, self.learned or digest_of_learned(self.run))

    @property
    def name(self) -> str:
        """The name of the run."""
        return self.run.metadata.name

    @property
    def namespace(self) -> str:
        """The namespace of the run and of all that belongs to it."""
        return self.run.metadata.namespace

    def labels(self, component: str, more: Mapping[str, str] | None = None) -> dict[str, str]:
        """Return the labels of an object of the run."""
        return {
            "app.kubernetes.io/name": "distillery",
            **MANAGED_BY,
            COMPONENT_LABEL: component,
            RUN_LABEL: self.name,
            **(more or {}),
        }

    def selector(self, component: str) -> dict[str, str]:
        """Return the labels that distinguish the pods of a component from all others."""
        return {COMPONENT_LABEL: component, RUN_LABEL: self.name}

    def metadata(
        self, name: str, component: str, *, owned: bool = True, labels: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Return the metadata of an object of the run; an ``owned`` one is deleted with the run."""
        metadata: dict[str, Any] = {
            "name": name,
            "namespace": self.namespace,
            "labels": self.labels(component, labels),
        }
        if owned:
            metadata["ownerReferences"] = [
                {
                    "apiVersion": self.run.api_version,
                    "kind": self.run.kind,
                    "name": self.name,
                    "uid": self.uid,
                    "controller": True,
                }
            ]
        return metadata


def student_label(digest: str) -> str:
    """Return the label of a student, by the digest of its adapter; without one, its base model's."""
    return digest[:12] or "base"


def ingress_policy(owner: RunRef, name: str, component: str, *ingress: tuple[Sequence[Any], int]) -> dict[str, Any]:
    """Return a NetworkPolicy that opens ports of a component: each to its peers, or to everybody if it names none."""
    rules = [
        {**({"from": list(peers)} if peers else {}), "ports": [{"port": port, "protocol": "TCP"}]}
        for peers, port in ingress
    ]
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": owner.metadata(name, component),
        "spec": {
            "podSelector": {"matchLabels": owner.selector(component)},
            "policyTypes": ["Ingress"],
            "ingress": rules,
        },
    }


def digest(value: Any) -> str:
    """Return eight characters that a JSON value determines."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def truncate_name(name: str, inputs: Any) -> str:
    """Return a name of at most 63 characters that differs where ``inputs`` differ."""
    return f"{name[:54].rstrip('-')}-{digest(inputs)}"
