"""A small valid document, for tests to change."""

from __future__ import annotations

import copy
from typing import Any

MINIMAL: dict[str, Any] = {
    "apiVersion": "distillery.dev/v1alpha1",
    "kind": "DistillationRun",
    "metadata": {"name": "test"},
    "spec": {"models": {"student": {"model": "/models/tiny"}}},
}


def document(**spec: Any) -> dict[str, Any]:
    """The minimal document with parts of its spec replaced."""
    made = copy.deepcopy(MINIMAL)
    made["spec"].update(spec)
    return made
