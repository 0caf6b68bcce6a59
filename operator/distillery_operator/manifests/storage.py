"""The account and the volume of a run."""

from __future__ import annotations

from typing import Any

from kubernetes.utils.quantity import parse_quantity

from distillery_operator.manifests.pods import claim_name
from distillery_operator.model.names import RunRef
from distillery_operator.model.objects import Manifest


def service_account(owner: RunRef) -> dict[str, Any]:
    """Return the pods' account: without rights, and its token is never mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owner.metadata(owner.name, "account"),
        "automountServiceAccountToken": False,
    }


def claim(owner: RunRef, present: Manifest | None = None) -> dict[str, Any]:
    """Return the volume claim with the run's artifacts.

    Args:
        owner: the run.
        present: the claim as it is, whose request may have been raised by hand: volumes do not shrink.
    """
    storage = owner.run.spec.storage
    sizes = [storage.volume_claim.size]
    if present is not None:
        sizes.append(present["spec"]["resources"]["requests"]["storage"])
    spec: dict[str, Any] = {
        "accessModes": [storage.volume_claim.access_mode],
        "resources": {"requests": {"storage": max(sizes, key=parse_quantity)}},
    }
    if storage.volume_claim.storage_class_name is not None:
        spec["storageClassName"] = storage.volume_claim.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": owner.metadata(claim_name(owner), "artifacts", owned=not storage.retain),
        "spec": spec,
    }
