"""The reconciliation of one run: read what is known, decide, act, and repeat whenever something changed."""

from __future__ import annotations

import asyncio
import contextlib
import json
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
from distillery_operator.cache import CHILDREN, Cache, RunKey
from distillery_operator.decide.canary import canary
from distillery_operator.decide.canary.routing import to_ask
from distillery_operator.decide.decide import ASK_SECONDS, WAITING, decide
from distillery_operator.decide.events import events_between, manifest
from distillery_operator.decide.problems import suspects
from distillery_operator.decide.replicas import HANDOVER, hand_over
from distillery_operator.kube.client import CONTROLLER, ApiError, KubeClient
from distillery_operator.manifests import database
from distillery_operator.manifests.gateway import GENERATION
from distillery_operator.manifests.names import RUN_LABEL, RunRef, digest
from distillery_operator.metrics import Metrics
from distillery_operator.model import reasons
from distillery_operator.model.decision import Decision
from distillery_operator.model.objects import Manifest, ObjectRef, stranger
from distillery_operator.model.observed import Observed, Refusal, serving_pods
from distillery_operator.pods import feedback, serving
from distillery_operator.settings import Settings

_log = logging.getLogger(__name__)

_GATHER_SECONDS = 0.1  # changes come in bursts; one look is enough for all of them
_FIRST_RETRY, _LAST_RETRY = 1.0, 120.0
_PASSWORD_BYTES = 24
_MAX_CHARACTERS = 2000  # of what the API server says to an object


class Reconciler:
    """The reconciler of one run, until the run is gone.

    Args:
        key: the run.
        kube: the API server.
        cache: the objects that the watches reported.
        settings: the operator's.
        metrics: counts what is done.
        rooms: each bounds how many runs are looked at side by side; a look takes a place in all, in this order.
    """

    def __init__(
        self,
        key: RunKey,
        kube: KubeClient,
        cache: Cache,
        settings: Settings,
        metrics: Metrics,
        *rooms: asyncio.Semaphore,
    ) -> None:
        self._key = key
        self._kube = kube
        self._cache = cache
        self._settings = settings
        self._metrics = metrics
        self._rooms = rooms
        self._wake = asyncio.Event()
        self._uid = ""
        self._status: dict[str, Any] = {}
        self._applied: dict[ObjectRef, tuple[str, float]] = {}
        self._listed = -math.inf
        self._said: dict[str, serving.Said] = {}
        self._failures, self._counted = 0, -math.inf
        self._looked = -math.inf
        self._heard = time.monotonic()
        self._refusals: tuple[Refusal, ...] = ()
        self._seen = self._overwritten = False
        self._written = -math.inf
        self._compared: Manifest | None = None

    def wake(self) -> None:
        """Reconcile the run soon, for something changed."""
        self._wake.set()

    async def run(self) -> None:
        """Reconcile until cancelled; a failure is retried, later and later."""
        failures = 0
        while True:
            try:
                async with contextlib.AsyncExitStack() as taken:
                    for room in self._rooms:
                        await taken.enter_async_context(room)
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
            await asyncio.sleep(_GATHER_SECONDS)

    async def _reconcile(self) -> float | None:
        """One round: seconds until the next one without cause."""
        body = self._cache.runs.get(self._key)
        if body is None or body["metadata"].get("deletionTimestamp"):
            return None
        started = time.monotonic()
        self._meet(body)
        observed = await self._gather(body)
        now = datetime.now(UTC)
        decision = decide(body, self._status, observed, self._settings, now)
        refusals = await self._act(body, decision)
        if refusals != self._refusals:
            self._refusals = refusals
            self._metrics.failures.inc(len(refusals))
            told = decide(body, self._status, replace(observed, refusals=refusals), self._settings, now)
            decision = replace(decision, status=told.status, requeue=told.requeue)
        # last, for it says what was done
        await self._write_status(body, decision.status)
        self._metrics.reconciled(started)
        return decision.requeue

    def _meet(self, body: Manifest) -> None:
        """At the first sight of a run its status is taken from there; from then on only this writer changes it."""
        if self._uid == body["metadata"]["uid"]:
            self._compare(body)
            return
        self._status = dict(body.get("status", {}))
        self._seen, self._overwritten = True, False
        self._uid = body["metadata"]["uid"]
        self._applied.clear()
        self._refusals = ()
        self._listed = -math.inf
        self._counted = -math.inf

    def _compare(self, body: Manifest) -> None:
        """Notice that somebody wrote another status over ours: a leader of before whose request was late, or a hand.

        What the watch tells lags behind; only what follows our own status is somebody else's.
        """
        if body is self._compared:
            return
        if _text(body.get("status", {})) == _text(self._status):
            self._seen = True
        elif self._seen and time.monotonic() - self._written > self._settings.resync_seconds:
            _log.warning("run %s/%s: somebody else wrote its status; writing it again", *self._key)
            self._seen, self._overwritten = False, True
        elif self._seen:
            return  # two writers that put each other right would never stop
        self._compared = body

    async def _gather(self, body: Manifest) -> Observed:
        """What is known; of an active run it is asked for anew now and then, for a watch can miss a deletion.

        At the first sight of a run that is served the watches may not have told of its servers yet.
        """
        active = self._status.get("phase") not in ("Complete", "Failed")
        unseen = self._listed == -math.inf and "serving" in self._status
        if unseen or (active and time.monotonic() - self._listed > self._settings.resync_seconds):
            since = self._cache.moment
            self._cache.replace(self._key, await self._list_children(), since=since)
            self._listed = time.monotonic()
        observed = self._cache.observed(self._key, self._uid)
        events: dict[str, tuple[Manifest, ...]] = {}
        by_kind: dict[tuple[str, str], list[ObjectRef]] = {}
        for suspect in suspects(observed) if active else ():
            by_kind.setdefault((suspect.namespace, suspect.kind), []).append(suspect)
        for (namespace, kind), (suspect, *others) in by_kind.items():
            # one list for all of a kind: the API server reads a namespace's events from its database each time
            selector = f"involvedObject.kind={kind}" + ("" if others else f",involvedObject.name={suspect.name}")
            found = await self._kube.list("v1", "Event", namespace, fieldSelector=selector)
            for event in sorted(found, key=_event_time):
                uid = event["involvedObject"].get("uid", "")
                events[uid] = (*events.get(uid, ()), event)
        failures = await self._count_failures(observed)
        return await self._ask(replace(observed, events=events, failures=failures, refusals=self._refusals))

    async def _count_failures(self, observed: Observed) -> int:
        """How many failures of users have gathered, where the run waits for them; asked for now and then.

        An old count is none: the round that it started has used it up.
        """
        age = time.monotonic() - self._counted
        if self._status.get("phase") == WAITING and age >= ASK_SECONDS * 0.9:
            self._failures = await feedback.failures(serving_pods(observed))
            self._counted, age = time.monotonic(), 0.0
        return self._failures if age < 2 * ASK_SECONDS else 0

    async def _ask(self, observed: Observed) -> Observed:
        """With what serving pods say. Those that said that they serve what they were told last are not asked again.

        As long as a newcomer is on trial, or has servers still, all are asked every few seconds.
        """
        uids = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in serving_pods(observed)}
        self._said = {uid: word for uid, word in self._said.items() if uid in uids}
        now, watched = time.monotonic(), canary.is_watched(self._status, observed)
        if not watched:
            self._heard = now
        look = watched and now - self._looked >= canary.LOOK_SECONDS
        if asked := to_ask(observed, {uid: word.generation for uid, word in self._said.items()}, trial=look):
            answers = await serving.ask(asked)
            self._said |= answers
            self._heard = now if answers else self._heard
        self._looked = now if look else self._looked
        said = {uids[uid]: word for uid, word in self._said.items()}
        return replace(
            observed,
            generations={name: word.generation for name, word in said.items()},
            problems={name: word.problem for name, word in said.items() if word.problem},
            live={name: word.live for name, word in said.items()},
            silence=now - self._heard,
        )

    async def _list_children(self) -> list[Manifest]:
        namespace, name = self._key
        children: list[Manifest] = []
        for version, kind, _ in CHILDREN:
            children += await self._kube.list(version, kind, namespace, labelSelector=f"{RUN_LABEL}={name}")
        return children

    async def _act(self, body: Manifest, decision: Decision) -> tuple[Refusal, ...]:
        """Carry a decision out, and return what can't be done of it: the rest is done all the same.

        Each act is idempotent. What was found of a newcomer comes first: pods that are told of it forget the counts
        that it was found by.
        """
        refusals: list[Refusal] = []
        if _trial(decision.status) != _trial(self._status):
            await self._write_status(body, decision.status)
        if decision.secret:
            owner = RunRef(parse({key: value for key, value in body.items() if key != "status"}), self._uid)
            secret = database.secret(owner, secrets.token_hex(_PASSWORD_BYTES))
            with _noting(refusals, secret):
                await self._kube.create(secret)
        for wanted in decision.apply:
            with _noting(refusals, wanted):
                await self._apply(wanted)
        for reference, generation in decision.annotate:
            await self._kube.annotate(reference, {GENERATION: str(generation)})
        for wanted in decision.create:
            if any(refusal.what == f"ConfigMap {wanted['metadata']['name']}" for refusal in refusals):
                continue  # a Job without its configuration
            with _noting(refusals, wanted):
                if await self._kube.create(wanted):
                    self._metrics.created.labels(wanted["kind"]).inc()
        for reference, uid in decision.delete:
            if known := uid or await self._uid_of_ours(reference):
                await self._kube.delete(reference, uid=known)
            self._applied.pop(reference, None)
        return tuple(refusals)

    async def _apply(self, wanted: Manifest) -> None:
        """Apply a manifest, unless this very one was applied a short while ago and is still there.

        Nothing is applied over an object of another owner, nor over one that is on its way out.
        """
        reference, content = ObjectRef.to(wanted), digest(wanted)
        known = self._applied.get(reference)
        if known and known[0] == content and time.monotonic() - known[1] < self._settings.resync_seconds * 0.9:
            return
        present = await self._kube.get(reference)
        if present and not _may_apply(wanted, present):
            return
        if present and (first := hand_over(wanted, present, CONTROLLER)):
            await self._kube.apply(first, manager=HANDOVER)
        await self._kube.apply(wanted)
        self._applied[reference] = (content, time.monotonic())

    async def _uid_of_ours(self, reference: ObjectRef) -> str:
        """The uid of an object of a kind that the cache does not keep; empty where it is gone or another owner's."""
        metadata: Mapping[str, Any] = (await self._kube.get(reference) or {}).get("metadata", {})
        ours = any(owner["uid"] == self._uid for owner in metadata.get("ownerReferences", []))
        return metadata["uid"] if ours else ""

    def forget(self, reference: ObjectRef) -> None:
        """Forget that an object was applied, for it is gone or on its way out: the next look applies it again."""
        self._applied.pop(reference, None)

    async def _write_status(self, body: Manifest, status: Mapping[str, Any]) -> None:
        before = {key: value for key, value in self._status.items() if key != "progress"}
        if status == before and not self._overwritten:
            return
        named = {key: body["metadata"][key] for key in ("name", "namespace", "uid")}
        await self._kube.apply_status(
            {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": named, "status": dict(status)}
        )
        self._status, self._seen, self._overwritten = dict(status), False, False
        self._written = time.monotonic()
        self._metrics.status_writes.inc()
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        for event in events_between(before, status):
            await self._kube.create(manifest(event, body, now))
        # what was just done may allow more
        self.wake()


class NameTaken(Exception):
    """A conflict of names: somebody else's object has the name of one that a run needs."""


def _may_apply(wanted: Manifest, present: Manifest) -> bool:
    """Whether an object may be applied now. Raises :class:`NameTaken` where another's has its name."""
    if present["metadata"].get("deletionTimestamp"):
        return False
    if owner := stranger(present, wanted):
        raise NameTaken(owner)
    return True


@contextlib.contextmanager
def _noting(refusals: list[Refusal], wanted: Manifest) -> Generator[None]:
    """Note that an object can't be had, which its author can mend, and go on."""
    what = f"{wanted['kind']} {wanted['metadata']['name']}"
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


def _text(status: Mapping[str, Any]) -> str:
    """A status as it is written, without what another writer adds."""
    return json.dumps({key: value for key, value in status.items() if key != "progress"}, sort_keys=True)


def _trial(status: Mapping[str, Any]) -> Any:
    return status.get("serving", {}).get("canary")


def _event_time(event: Manifest) -> str:
    return event.get("lastTimestamp") or event.get("eventTime") or event["metadata"]["creationTimestamp"]
