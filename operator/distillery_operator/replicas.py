"""How many servers a student gets: the run says so, or a round needs their GPUs. Pure."""

from __future__ import annotations

from dataclasses import replace

from distillery.api import Spec
from distillery_operator.manifests.names import Owner


def pauses(spec: Spec, phase: str) -> bool:
    """Return whether servers make room for the round that a run is in.

    Args:
        spec: the run's.
        phase: what the planner says.
    """
    return spec.promotion.service.during_rounds == "Pause" and phase == "Running" and not spec.suspend


def with_replicas(owner: Owner, replicas: int) -> Owner:
    """Return the run as if it asked for so many servers."""
    spec = owner.run.spec
    service = spec.promotion.service.model_copy(update={"replicas": replicas})
    promotion = spec.promotion.model_copy(update={"service": service})
    spec = spec.model_copy(update={"promotion": promotion})
    return replace(owner, run=owner.run.model_copy(update={"spec": spec}))
