"""The application of manifests: each at most once a minute, and none over an object of another owner."""

from __future__ import annotations

import time

from distillery_operator.decide.replicas import HANDOVER, replicas_to_keep
from distillery_operator.kube.client import CONTROLLER, KubeClient
from distillery_operator.model.names import digest
from distillery_operator.model.objects import Manifest, ObjectRef, find_other_owner


class NameTaken(Exception):
    """A conflict of names: an object of another owner has the name of one that a run needs."""


class Applier:
    """The applier of a run's manifests, with a cache of those that it applied.

    Args:
        kube: the API server.
        seconds: how long an applied manifest is not applied again.
    """

    def __init__(self, kube: KubeClient, seconds: float) -> None:
        self._kube = kube
        self._seconds = seconds
        self._applied: dict[ObjectRef, tuple[str, float]] = {}

    async def apply(self, manifest: Manifest) -> None:
        """Apply a manifest, unless the same one was applied recently and is still there.

        An object that is being deleted is left alone.

        Raises:
            NameTaken: the object belongs to another owner.
        """
        reference, content = ObjectRef.to(manifest), digest(manifest)
        applied, moment = self._applied.get(reference, ("", 0.0))
        if applied == content and time.monotonic() - moment < self._seconds:
            return
        present = await self._kube.get(reference)
        if present:
            if present["metadata"].get("deletionTimestamp"):
                return
            if owner := find_other_owner(present, manifest):
                raise NameTaken(owner)
            if kept := replicas_to_keep(manifest, present, CONTROLLER):
                await self._kube.apply(kept, manager=HANDOVER)
        await self._kube.apply(manifest)
        self._applied[reference] = (content, time.monotonic())

    def forget(self, reference: ObjectRef) -> None:
        """Forget that an object was applied, because it is gone or is being deleted."""
        self._applied.pop(reference, None)

    def clear(self) -> None:
        """Forget all objects."""
        self._applied.clear()
