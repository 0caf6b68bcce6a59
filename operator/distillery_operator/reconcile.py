"""The reconciliation of one run: observe, decide, act, and repeat whenever something changed."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
import random
import secrets
import time
from collections.abc import Generator, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from distillery.core.api import parse
from distillery_operator.apply import Applier, NameTaken
from distillery_operator.cache import CHILDREN, Cache, RunKey
from distillery_operator.decide.decide import decide
from distillery_operator.decide.events import event_manifest, events_between
from distillery_operator.decide.problems import find_suspects
from distillery_operator.kube.client import ApiError, KubeClient
from distillery_operator.manifests import database
from distillery_operator.manifests.gateway import GENERATION
from distillery_operator.metrics import Metrics
from distillery_operator.model import reasons
from distillery_operator.model.decision import Decision
from distillery_operator.model.names import RUN_LABEL, RunRef
from distillery_operator.model.objects import Manifest, ObjectRef, rfc3339
from distillery_operator.model.observed import Observed, Refusal
from distillery_operator.model.phases import ENDED
from distillery_operator.pods.reports import FailureCount, PodReports
from distillery_operator.settings import Settings
from distillery_operator.written_status import WrittenStatus

_log = logging.getLogger(__name__)

_BURST_SECONDS = 0.1  # changes come in bursts; one reconciliation is enough for all of them
_FIRST_RETRY, _LAST_RETRY = 1.0, 120.0
_PASSWORD_BYTES = 24
_MAX_CHARACTERS = 2000  # of a refusal by the API server


class Reconciler:
    """The reconciler of one run, until the run is gone.

    Args:
        key: the run.
        kube: the API server.
        cache: the objects that the watches reported.
        settings: the operator's.
        metrics: counts what is done.
        limits: each bounds how many runs are reconciled at the same time; they are acquired in this order.
    """

    def __init__(
        self,
        key: RunKey,
        kube: KubeClient,
        cache: Cache,
        settings: Settings,
        metrics: Metrics,
        *limits: asyncio.Semaphore,
    ) -> None:
        self._key = key
        self._kube = kube
        self._cache = cache
        self._settings = settings
        self._metrics = metrics
        self._limits = limits
        self._wake = asyncio.Event()
        self._uid = ""
        self._listed = -math.inf
        self._refusals: tuple[Refusal, ...] = ()
        self._status = WrittenStatus(settings.resync_seconds)
        self._applier = Applier(kube, settings.resync_seconds * 0.9)
        self._reports = PodReports()
        self._failures = FailureCount()

    def wake(self) -> None:
        """Reconcile the run soon, for something changed."""
        self._wake.set()

    def forget(self, reference: ObjectRef) -> None:
        """Apply an object again, because it is gone or is being deleted."""
        self._applier.forget(reference)

    async def run(self) -> None:
        """Reconcile until cancelled; a failure is retried, later and later."""
        failures = 0
        while True:
            try:
                async with contextlib.AsyncExitStack() as acquired:
                    for limit in self._limits:
                        await acquired.enter_async_context(limit)
                    self._wake.clear()
                    requeue = await self._reconcile()
                failures = 0
            except Exception as error:
                failures += 1
                self._metrics.failures.inc()
                requeue = min(_LAST_RETRY, _FIRST_RETRY * 2 ** (failures - 1)) * random.uniform(0.5, 1.0)  # noqa: S311
                expected = isinstance(error, ApiError)
                _log.warning("run %s/%s: %s; trying again in %.1f s", *self._key, error, requeue, exc_info=not expected)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(requeue):  # wait_for of Python 3.11 may swallow a cancellation
                    await self._wake.wait()
            await asyncio.sleep(_BURST_SECONDS)

    async def _reconcile(self) -> float | None:
        """Reconcile once, and return the seconds until the next time without cause."""
        body = self._cache.runs.get(self._key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return None
        started = time.monotonic()
        self._meet(body)
        observed = await self._observe()
        now = datetime.now(UTC)
        decision = decide(body, self._status.fields, observed, self._settings, now)
        refusals = await self._act(body, decision)
        if refusals != self._refusals:
            self._refusals = refusals
            self._metrics.failures.inc(len(refusals))
            again = decide(body, self._status.fields, replace(observed, refusals=refusals), self._settings, now)
            decision = replace(decision, status=again.status, requeue=again.requeue)
        # last, for it says what was done
        await self._write_status(body, decision.status)
        self._metrics.observe_reconciliation(started)
        return decision.requeue

    def _meet(self, body: Manifest) -> None:
        """Take the status from a run that is seen for the first time; else look for other writers of it."""
        if self._uid == body["metadata"]["uid"]:
            self._status.compare(body)
            return
        self._uid = body["metadata"]["uid"]
        self._status.adopt(body)
        self._applier.clear()
        self._refusals = ()
        self._listed = -math.inf
        self._failures.clear()

    async def _observe(self) -> Observed:
        """Return the objects of the run, with events about them and reports of pods."""
        active = self._status.fields.get("phase") not in ENDED
        await self._relist(active=active)
        observed = self._cache.observe(self._key, self._uid)
        events = await self._list_events(observed) if active else {}
        failures = await self._failures.poll(self._status.fields.get("phase", ""), observed)
        observed = replace(observed, events=events, failures=failures, refusals=self._refusals)
        return await self._reports.poll(self._status.fields, observed)

    async def _relist(self, *, active: bool) -> None:
        """List the objects of an active run now and then, because a watch can miss a deletion.

        When a run that serves is seen for the first time, the watches may not have reported its servers yet.
        """
        unseen = self._listed == -math.inf and "serving" in self._status.fields
        if unseen or (active and time.monotonic() - self._listed > self._settings.resync_seconds):
            since = self._cache.moment
            self._cache.replace(self._key, await self._list_children(), since=since)
            self._listed = time.monotonic()

    async def _list_children(self) -> list[Manifest]:
        namespace, name = self._key
        children: list[Manifest] = []
        for version, kind, _ in CHILDREN:
            children += await self._kube.list(version, kind, namespace, labelSelector=f"{RUN_LABEL}={name}")
        return children

    async def _list_events(self, observed: Observed) -> dict[str, tuple[Manifest, ...]]:
        """Return the events about objects that may be stuck, by the uid of the object; the newest last."""
        events: dict[str, tuple[Manifest, ...]] = {}
        by_kind: dict[tuple[str, str], list[ObjectRef]] = {}
        for suspect in find_suspects(observed):
            by_kind.setdefault((suspect.namespace, suspect.kind), []).append(suspect)
        for (namespace, kind), (suspect, *others) in by_kind.items():
            # one list for all of a kind: the API server reads a namespace's events from its database each time
            selector = f"involvedObject.kind={kind}" + ("" if others else f",involvedObject.name={suspect.name}")
            listed = await self._kube.list("v1", "Event", namespace, fieldSelector=selector)
            for event in sorted(listed, key=_event_time):
                uid = event["involvedObject"].get("uid", "")
                events[uid] = (*events.get(uid, ()), event)
        return events

    async def _act(self, body: Manifest, decision: Decision) -> tuple[Refusal, ...]:
        """Carry a decision out, and return what the API server refuses of it; the rest is done all the same.

        Each act is idempotent. The status of a canary comes first: pods that get another routing document drop the
        counts that decided about the canary.
        """
        refusals: list[Refusal] = []
        if _canary(decision.status) != _canary(self._status.fields):
            await self._write_status(body, decision.status)
        if decision.secret:
            secret = database.secret(RunRef(parse(body), self._uid), secrets.token_hex(_PASSWORD_BYTES))
            with _noting(refusals, secret):
                await self._kube.create(secret)
        for manifest in decision.apply:
            with _noting(refusals, manifest):
                await self._applier.apply(manifest)
        for reference, generation in decision.annotate:
            await self._kube.annotate(reference, {GENERATION: str(generation)})
        for manifest in decision.create:
            if any(refusal.what == f"ConfigMap {manifest['metadata']['name']}" for refusal in refusals):
                continue  # a Job without its configuration
            with _noting(refusals, manifest):
                if await self._kube.create(manifest):
                    self._metrics.created.labels(manifest["kind"]).inc()
        for reference, uid in decision.delete:
            if owned_uid := uid or await self._find_owned(reference):
                await self._kube.delete(reference, uid=owned_uid)
            self._applier.forget(reference)
        return tuple(refusals)

    async def _find_owned(self, reference: ObjectRef) -> str:
        """Return the uid of an object that the cache does not keep; empty if it is gone or another owner's."""
        metadata: Mapping[str, Any] = (await self._kube.get(reference) or {}).get("metadata", {})
        owned = any(owner["uid"] == self._uid for owner in metadata.get("ownerReferences", []))
        return metadata["uid"] if owned else ""

    async def _write_status(self, body: Manifest, status: Mapping[str, Any]) -> None:
        if not self._status.differs(status):
            return
        before = self._status.without_progress
        metadata = {key: body["metadata"][key] for key in ("name", "namespace", "uid")}
        await self._kube.apply_status(
            {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "status": dict(status)}
        )
        self._status.keep(status)
        self._metrics.status_writes.inc()
        now = rfc3339(datetime.now(UTC))
        for event in events_between(before, status):
            await self._kube.create(event_manifest(event, body, now))
        # the change may allow more
        self.wake()


@contextlib.contextmanager
def _noting(refusals: list[Refusal], manifest: Manifest) -> Generator[None]:
    """Note that the API server refuses an object, or that its name is taken, and continue."""
    what = f"{manifest['kind']} {manifest['metadata']['name']}"
    try:
        yield
    except NameTaken as taken:
        message = f"The {what} belongs to {taken} and is left alone: remove it, or make a run of another name."
        refusals.append(Refusal(what, reasons.Stalled.NAME_CONFLICT, message))
    except ApiError as error:
        if not error.refuses:
            raise
        message = f"The API server refuses the {what}: {str(error)[:_MAX_CHARACTERS]}"
        refusals.append(Refusal(what, reasons.Stalled.OBJECT_REJECTED, message))


def _canary(status: Mapping[str, Any]) -> Any:
    return status.get("serving", {}).get("canary")


def _event_time(event: Manifest) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
