"""The number of servers of a student: the run, an autoscaler or a round that needs their GPUs decides. Pure."""

from __future__ import annotations

from dataclasses import replace

from distillery.core.api import Spec
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import Observed
from distillery_operator.model.phases import RunPhase

HANDOVER = "distillery-replicas"
"""Field manager that keeps a Deployment's replicas until an autoscaler sets them."""


def pauses_servers(spec: Spec, phase: str) -> bool:
    """Return whether servers make room for the round that a run is in.

    Args:
        spec: the run's.
        phase: what the planner says.
    """
    return spec.serving.during_rounds == "Pause" and phase == RunPhase.RUNNING and not spec.suspend


def with_replicas(owner: RunRef, replicas: int) -> RunRef:
    """Return the run with another number of servers."""
    spec = owner.run.spec
    spec = spec.model_copy(update={"serving": spec.serving.model_copy(update={"replicas": replicas})})
    return replace(owner, run=owner.run.model_copy(update={"spec": spec}))


def with_replicas_in_effect(owner: RunRef, observed: Observed) -> RunRef:
    """Return the run with the number of servers that an autoscaler set, if one decides."""
    deployment = observed.deployments.get(owner.name)
    if deployment is None or owner.run.spec.serving.scaling == "Fixed":
        return owner
    return with_replicas(owner, deployment["spec"].get("replicas", 1))


def leave_replicas_to_autoscaler(deployment: Manifest, owner: RunRef, observed: Observed) -> Manifest:
    """Return a Deployment without its replicas once it exists, where an autoscaler decides on them."""
    if owner.name not in observed.deployments or owner.run.spec.serving.scaling == "Fixed":
        return deployment
    return {**deployment, "spec": {key: value for key, value in deployment["spec"].items() if key != "replicas"}}


def replicas_to_keep(manifest: Manifest, present: Manifest, manager: str) -> Manifest | None:
    """Return what :data:`HANDOVER` has to apply before a Deployment is applied without replicas; None for nothing.

    The last manager that gives a field up removes it: the API server would then set one replica, until the autoscaler
    looks again. https://kubernetes.io/docs/reference/using-api/server-side-apply/#transferring-ownership

    Args:
        manifest: of the object, about to be applied.
        present: the object as it is, with ``managedFields``.
        manager: the field manager that applies it.
    """
    if manifest["kind"] != "Deployment" or "replicas" in manifest["spec"]:
        return None
    managers = {
        entry["manager"]
        for entry in present["metadata"].get("managedFields", [])
        if "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    }
    if managers != {manager}:
        return None
    metadata = {key: manifest["metadata"][key] for key in ("name", "namespace")}
    kind = {key: manifest[key] for key in ("apiVersion", "kind")}
    return {**kind, "metadata": metadata, "spec": {"replicas": present["spec"]["replicas"]}}
