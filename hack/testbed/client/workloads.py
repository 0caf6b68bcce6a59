"""Pods and claims for tests, as the restricted pod security demands them."""

from __future__ import annotations

from typing import Any

PYTHON = "python:3.11-slim"


def container(name: str, *command: str, image: str = PYTHON, **fields: Any) -> dict[str, Any]:
    """A container that may do nothing that it need not."""
    security = {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    made = {"name": name, "image": image, "imagePullPolicy": "Never", "securityContext": security, **fields}
    return made | ({"command": list(command)} if command else {})


def python(name: str, code: str, **fields: Any) -> dict[str, Any]:
    """A container that runs a piece of Python."""
    return container(name, "python3", "-c", code, **fields)


def pod_spec(*containers: dict[str, Any], user: int = 1000, **fields: Any) -> dict[str, Any]:
    """A pod for a user who is not root."""
    security = {
        "runAsNonRoot": True,
        "runAsUser": user,
        "runAsGroup": user,
        "fsGroup": user,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    made: dict[str, Any] = {"containers": list(containers), "securityContext": security, "restartPolicy": "Never"}
    return made | {"terminationGracePeriodSeconds": 1} | fields


def pod(name: str, *containers: dict[str, Any], **fields: Any) -> dict[str, Any]:
    """A pod."""
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name, "labels": {"app": name}},
        "spec": pod_spec(*containers, **fields),
    }


def claim(name: str) -> dict[str, Any]:
    """A claim of a volume of the default class."""
    spec = {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "64Mi"}}}
    return {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": name}, "spec": spec}
