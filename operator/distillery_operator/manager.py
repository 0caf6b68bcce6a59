"""All runs: one reconciler each, which the events of watches wake."""

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
from distillery_operator.model.phases import RunPhase
from distillery_operator.pods.progress import ProgressWatcher
from distillery_operator.reconcile import Reconciler
from distillery_operator.settings import Settings

_log = logging.getLogger(__name__)

_RELIST_SECONDS = 300.0
_MAX_CONCURRENCY = 32
"""The number of runs that are reconciled at the same time. At the start all are due, and the lead is renewed too."""

_MAX_PER_NAMESPACE = 16
"""The number of them in one namespace, so that slow pods in one namespace do not delay the others."""


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
        self._limit = asyncio.Semaphore(_MAX_CONCURRENCY)
        self._limits: defaultdict[str, asyncio.Semaphore] = defaultdict(lambda: asyncio.Semaphore(_MAX_PER_NAMESPACE))
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
            # in this order: a run that waits for its namespace takes no slot from other namespaces
            limits = (self._limits[key[0]], self._limit)
            reconciler = Reconciler(key, self._kube, self.cache, self._settings, self._metrics, *limits)
            self._reconcilers[key] = (reconciler, asyncio.create_task(reconciler.run(), name="/".join(key)))
        self._reconcilers[key][0].wake()

    def run_gone(self, body: Manifest) -> None:
        """Stop the reconciler of a run that was deleted. Kubernetes deletes what the run owned."""
        self._count(self.cache.runs.get(key_of(body)), None)
        key = self.cache.drop_run(body)
        if entry := self._reconcilers.pop(key, None):
            _, task = entry
            task.cancel()

    def child_changed(self, child: Manifest, *, gone: bool) -> None:
        """Wake the run of an object that was created, changed or deleted."""
        key = self.cache.drop(child) if gone else self.cache.keep(child)
        self._wake(key, child, gone=gone)

    def unkept_gone(self, child: Manifest) -> None:
        """Wake the run of a deleted object of a kind that the cache does not keep."""
        self._wake(owner_of(child), child, gone=True)

    def _wake(self, key: RunKey | None, child: Manifest, *, gone: bool) -> None:
        """Wake the reconciler of a run whose object changed."""
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
        """List all runs now and then, and find those that the watches missed."""
        while True:
            await asyncio.sleep(_RELIST_SECONDS)
            try:
                runs = await self._list_runs()
            except Exception as error:
                _log.warning("the runs can't be listed: %s", error)
                continue
            self._metrics.mark_alive()
            listed = {(body["metadata"]["namespace"], body["metadata"]["name"]): body for body in runs}
            for key in self.cache.runs.keys() - listed.keys():
                self.run_gone(self.cache.runs[key])
            for key in listed.keys() - self.cache.runs.keys():
                self.run_changed(listed[key])

    async def _list_runs(self) -> list[Manifest]:
        runs: list[Manifest] = []
        for namespace in _scopes(self._settings.namespaces):
            path = f"/apis/{GROUP}/{VERSION}{namespace}/{PLURAL}"
            listed = await self._kube.list_all(path, labelSelector=self._settings.run_selector)
            runs += [{"apiVersion": f"{GROUP}/{VERSION}", "kind": "DistillationRun", **body} for body in listed]
        return runs

    def _count(self, before: Manifest | None, after: Manifest | None) -> None:
        """Update the number of runs by phase: counting all of them at each change would take too long."""
        for body, step in ((before, -1), (after, 1)):
            if body is not None:
                self._metrics.runs.labels(body.get("status", {}).get("phase", str(RunPhase.PENDING))).inc(step)


def _scopes(namespaces: Sequence[str]) -> list[str]:
    return [f"/namespaces/{namespace}" for namespace in namespaces] or [""]
