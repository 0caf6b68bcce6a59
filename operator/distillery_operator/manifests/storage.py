"""The account and the volume of a run."""

from __future__ import annotations

from typing import Any

from distillery_operator.manifests.names import Owner
from distillery_operator.manifests.pods import claim_name


def service_account(owner: Owner) -> dict[str, Any]:
    """The pods' identity: without rights, and its token is never mounted."""
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": owner.metadata(owner.name, "account"),
        "automountServiceAccountToken": False,
    }


def claim(owner: Owner) -> dict[str, Any]:
    """The volume claim with the run's artifacts."""
    storage = owner.run.spec.storage
    spec: dict[str, Any] = {
        "accessModes": [storage.claim.access_mode],
        "resources": {"requests": {"storage": storage.claim.size}},
    }
    if storage.claim.storage_class_name is not None:
        spec["storageClassName"] = storage.claim.storage_class_name
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": owner.metadata(claim_name(owner), "artifacts", owned=not storage.retain),
        "spec": spec,
    }
