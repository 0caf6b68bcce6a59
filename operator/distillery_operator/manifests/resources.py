"""The default resources of containers: a namespace with a quota refuses a pod that asks for nothing.

Requests are those of a small run. Memory limits leave room for the largest models of the examples.
"""

from __future__ import annotations

from kubernetes.utils.quantity import parse_quantity

from distillery.core.api.spec.infrastructure import Resources

WORKER = Resources(requests={"cpu": "50m", "memory": "256Mi"}, limits={"memory": "16Gi"})
"""A stage's worker that trains nothing: an environment, an embedding model."""

TRAINER = Resources(requests={"cpu": "100m", "memory": "512Mi"}, limits={"memory": "64Gi"})
"""The worker of stage ``train``: a base model passes through its memory."""

SERVER = Resources(requests={"cpu": "200m", "memory": "512Mi"}, limits={"memory": "64Gi"})
"""A vLLM. On a CPU its memory holds the model and the cache of its conversations."""

DOWNLOAD = Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "8Gi"})
"""The download of a base model."""

HELPER = Resources(requests={"cpu": "20m", "memory": "128Mi"}, limits={"memory": "1Gi"})
"""A Job that needs the database and nothing else."""

DATABASE = Resources(requests={"cpu": "50m", "memory": "128Mi"}, limits={"memory": "2Gi"})
"""A quick-start database, which runs as long as its run is there."""


def complete(given: Resources, default: Resources) -> Resources:
    """Return the resources with requests for CPU and memory and a limit for memory.

    As in Kubernetes, a limit without a request is the request. A request above the default limit raises the limit.

    Args:
        given: what the run says.
        default: of the container.
    """
    implied = {name: limit for name, limit in given.limits.items() if name in default.requests}
    requests = {**default.requests, **implied, **given.requests}
    limits = {name: largest(limit, requests.get(name, "0")) for name, limit in default.limits.items()}
    return Resources(requests=requests, limits={**limits, **given.limits})


def largest(*quantities: str) -> str:
    """Return the largest of quantities, as it is written."""
    return max(quantities, key=parse_quantity)
