"""The servers of a canary, if weights are merged: one vLLM holds one student, so another one is needed.

Its own gateway gives it the run's name and keys. Only the gateways that clients reach are let in, and these hold keys
to their limits.
"""

from __future__ import annotations

from typing import Any

from distillery.core.planner import Model
from distillery_operator.manifests import gateway, servers
from distillery_operator.manifests.gateway import CANARY
from distillery_operator.manifests.names import RunRef
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.settings import Settings


def manifests(
    owner: RunRef, student: Model, digest: str, settings: Settings, *, replicas: int
) -> tuple[dict[str, Any], ...]:
    """Return all objects that serve the canary.

    Args:
        owner: the run.
        student: the canary.
        digest: of its adapter.
        settings: images.
        replicas: how many servers.
    """
    wanted = gateway.desired(owner, student, digest, adapter=False)
    return (
        gateway.network_policy(owner, settings, CANARY),
        gateway.config_map(owner, wanted, CANARY),
        servers.deployment(owner, student, digest, settings, CANARY, replicas=replicas),
        servers.service(owner, CANARY),
    )


def to_delete(owner: RunRef, deployment: Manifest) -> tuple[tuple[ObjectRef, str], ...]:
    """Return the objects to delete with its Deployment, which is deleted last: while it exists the others are retried.

    Args:
        owner: the run.
        deployment: as it is observed.
    """
    settings = CANARY.settings(owner)
    others = (
        ObjectRef("v1", "Service", owner.namespace, CANARY.named(owner)),
        ObjectRef("v1", "ConfigMap", owner.namespace, settings),
        ObjectRef("networking.k8s.io/v1", "NetworkPolicy", owner.namespace, settings),
    )
    return (*((other, "") for other in others), (ObjectRef.to(deployment), deployment["metadata"]["uid"]))
