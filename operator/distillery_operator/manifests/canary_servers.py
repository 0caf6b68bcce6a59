"""The servers of a canary, if weights are merged: one vLLM holds one student, so another one is needed.

Its own gateway gives it the run's name and keys. Only the gateways that clients reach are let in, and these hold keys
to their limits.
"""

from __future__ import annotations

from typing import Any

from distillery.core.planner import Model
from distillery_operator.manifests import gateway, servers
from distillery_operator.manifests.gateway import CANARY
from distillery_operator.model.names import RunRef
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
    routing = gateway.routing_document(owner, student, digest, adapter=False)
    return (
        gateway.network_policy(owner, settings, CANARY),
        gateway.config_map(owner, routing, CANARY),
        servers.scale(servers.deployment(owner, student, digest, settings, CANARY), replicas),
        servers.service(owner, CANARY),
    )


def list_objects(owner: RunRef, deployment: Manifest) -> tuple[tuple[ObjectRef, str], ...]:
    """Return all objects of the canary. Its Deployment is the last: while it exists, deletions of others are retried.

    Args:
        owner: the run.
        deployment: the one that is observed.
    """
    settings = CANARY.config_name(owner)
    others = (
        ObjectRef("v1", "Service", owner.namespace, CANARY.resource_name(owner)),
        ObjectRef("v1", "ConfigMap", owner.namespace, settings),
        ObjectRef("networking.k8s.io/v1", "NetworkPolicy", owner.namespace, settings),
    )
    return (*((other, "") for other in others), (ObjectRef.to(deployment), deployment["metadata"]["uid"]))
