"""The result of a reconciliation: the changes to make."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from distillery_operator.model.objects import Manifest, ObjectRef


@dataclass(frozen=True, kw_only=True)
class Decision:
    """The changes to make, in this order.

    Attributes:
        secret: create the database's Secret, unless it exists.
        apply: manifests that are to hold.
        annotate: pods, and the generation of what they serve: it is written on them.
        create: manifests that are created once: a configuration, then its Job.
        delete: objects to delete, by reference and uid; the uid is empty for kinds that the cache does not keep.
        status: the controller's part of the status.
        requeue: seconds until the next reconciliation without cause; None if only a change matters.
    """

    secret: bool = False
    apply: tuple[Manifest, ...] = ()
    annotate: tuple[tuple[ObjectRef, int], ...] = ()
    create: tuple[Manifest, ...] = ()
    delete: tuple[tuple[ObjectRef, str], ...] = ()
    status: Mapping[str, Any] = field(default_factory=dict)
    requeue: float | None = None


def sooner(*waits: float | None) -> float | None:
    """Return the shortest of waits in seconds; None where there is none."""
    return min((seconds for seconds in waits if seconds is not None), default=None)
