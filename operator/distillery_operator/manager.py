"""All runs: one reconciler each, woken by what the watches tell."""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Sequence

from distillery.core.api import GROUP, VERSION
from distillery_operator.cache import Cache, RunKey, key_of, owner_of
from distillery_operator.crd.generate import PLURAL
from distillery_operator.kube.client import KubeClient
from distillery_operator.metrics import Metrics
from distillery_operator.model.objects import Manifest, ObjectRef
from distillery_operator.pods.progress import ProgressWatcher
from distillery_operator.reconcile import Reconciler
from distillery_operator.settings import Settings

_log = logging.getLogger(__name__)

_RELIST_SECONDS = 300.0
_AT_ONCE = 32
"""Runs that are looked at side by side. At the start all want to be, and between them the lead has to be renewed."""

_MAX_OF_A_NAMESPACE = 16
"""Of them in one namespace: one with pods that answer slowly leaves room for others."""


class Manager:
    """The dispatcher of watch events to one reconciler per run.

    Args:
        kube: the API server.
        settings: the operator's.
        metrics: the operator's.
    """

    def __init__(self, kube: KubeClient, settings: Settings, metrics: Metrics) -> None:
        self.cache = Cache()
        self._kube = kube
        self._settings = settings
        self._metrics = metrics
        self._room = asyncio.Semaphore(_AT_ONCE)
        self._rooms: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_MAX_OF_A_NAMESPACE))
        self._reconcilers: dict[RunKey, tuple[Reconciler, asyncio.Task[None]]] = {}

    async def run(self) -> None:
        """Run the tasks besides the reconcilers: progress, and the safety net under the watches."""
        async with asyncio.TaskGroup() as group:
            group.create_task(ProgressWatcher(self._kube, self.cache).run())
            group.create_task(self._relist())

    def run_changed(self, body: Manifest) -> None:
        """Wake the reconciler of a run that was created or changed; start one if there is none."""
        self._count(self.cache.runs.get(key_of(body)), body)
        key = self.cache.keep_run(body)
        if key not in self._reconcilers:
            # in this order: a run that waits for room in its namespace takes none from other namespaces
            rooms = (self._rooms[key[0]], self._room)
            reconciler = Reconciler(key, self._kube, self.cache, self._settings, self._metrics, *rooms)
            self._reconcilers[key] = (reconciler, asyncio.create_task(reconciler.run(), name="/".join(key)))
        self._reconcilers[key][0].wake()

    def run_gone(self, body: Manifest) -> None:
        """Stop the reconciler of a run that was deleted. Kubernetes deletes what the run owned."""
        self._count(self.cache.runs.get(key_of(body)), None)
        key = self.cache.drop_run(body)
        if found := self._reconcilers.pop(key, None):
            found[1].cancel()

    def child_changed(self, child: Manifest, *, gone: bool) -> None:
        """Wake the run of an object that was created, changed or deleted."""
        key = self.cache.drop(child) if gone else self.cache.keep(child)
        self._wake(key, child, gone=gone)

    def unkept_gone(self, child: Manifest) -> None:
        """Wake the run of an object that was deleted and that the cache knows nothing of."""
        self._wake(owner_of(child), child, gone=True)

    def _wake(self, key: RunKey | None, child: Manifest, *, gone: bool) -> None:
        """Have a run looked at, whose object changed."""
        if key in self._reconcilers:
            reconciler, _ = self._reconcilers[key]
            if gone or child["metadata"].get("deletionTimestamp"):
                reconciler.forget(ObjectRef.to(child))
            reconciler.wake()

    async def stop(self) -> None:
        """Cancel all reconcilers and wait for their end."""
        tasks = [task for _, task in self._reconcilers.values()]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _relist(self) -> None:
        """Find what the watches missed, which should be nothing."""
        while True:
            await asyncio.sleep(_RELIST_SECONDS)
            try:
                found = await self._list_runs()
            except Exception as error:
                _log.warning("the runs can't be listed: %s", error)
                continue
            self._metrics.hear()
            listed = {(body["metadata"]["namespace"], body["metadata"]["name"]): body for body in found}
            for key in self.cache.runs.keys() - listed.keys():
                self.run_gone(self.cache.runs[key])
            for key in listed.keys() - self.cache.runs.keys():
                self.run_changed(listed[key])

    async def _list_runs(self) -> list[Manifest]:
        found: list[Manifest] = []
        for namespace in _scopes(self._settings.namespaces):
            path = f"/apis/{GROUP}/{VERSION}{namespace}/{PLURAL}"
            listed = await self._kube.list_all(path, labelSelector=self._settings.run_selector)
            found += [{"apiVersion": f"{GROUP}/{VERSION}", "kind": "DistillationRun", **body} for body in listed]
        return found

    def _count(self, before: Manifest | None, after: Manifest | None) -> None:
        """Keep account of runs by phase: counting them all at each change takes the longer the more there are."""
        for body, step in ((before, -1), (after, 1)):
            if body is not None:
                self._metrics.runs.labels(body.get("status", {}).get("phase", "Pending")).inc(step)


def _scopes(namespaces: Sequence[str]) -> list[str]:
    return [f"/namespaces/{namespace}" for namespace in namespaces] or [""]
