"""Start-up: settings, the lead, and the watches. The only module that imports kopf.

kopf watches and passes events on; its handlers decide nothing, for events are edges, and edges get lost. No
handler of ours needs a finalizer, so a run can be deleted whether the operator is there or not.
"""

from __future__ import annotations

import asyncio
import logging
import os
import signal
import sys
from collections.abc import Coroutine
from typing import Any

import kopf

from distillery.core.api import GROUP, VERSION
from distillery_operator.cache import CHILDREN, UNKEPT
from distillery_operator.crd.generate import PLURAL
from distillery_operator.kube.client import PAGE, KubeClient
from distillery_operator.kube.election import Election
from distillery_operator.manager import Manager
from distillery_operator.metrics import Metrics
from distillery_operator.model.names import MANAGED_BY
from distillery_operator.settings import Settings

_log = logging.getLogger(__name__)

_CRD_SECONDS = 5.0


def main() -> None:
    """Run the operator until it is stopped, or loses the lead."""
    level = os.environ.get("DISTILLERY_LOG_LEVEL", "INFO").upper()
    logging.basicConfig(level=level, format="%(asctime)s %(levelname)s %(name)s: %(message)s", stream=sys.stderr)
    logging.getLogger("kopf").setLevel(logging.WARNING)
    try:
        settings = Settings.from_environment()
    except ValueError as error:
        sys.exit(str(error))
    sys.exit(asyncio.run(_serve(settings)))


async def _serve(settings: Settings) -> int:
    stop = asyncio.Event()
    for sign in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(sign, stop.set)
    metrics = Metrics()
    async with metrics.serve(settings.port), KubeClient() as kube:
        lead = asyncio.create_task(_lead(kube, settings, metrics, stop))
        stopping = asyncio.create_task(stop.wait())
        await asyncio.wait([lead, stopping], return_when=asyncio.FIRST_COMPLETED)
        if not stop.is_set():
            error = lead.exception()
            _log.error("exiting, to be restarted: %s", error or "the watches ended", exc_info=error)
            return 1
        lead.cancel()
        await asyncio.gather(lead, return_exceptions=True)
        return 0


async def _lead(kube: KubeClient, settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Wait for the lead, then operate as long as this replica has it."""
    election = Election(kube, settings.lease_name, settings.namespace, settings.identity, settings.lease_seconds)
    waiting = asyncio.create_task(_stay_ready(metrics))
    try:
        await election.acquire()
    finally:
        waiting.cancel()
    _log.info("%s leads", settings.identity)
    metrics.leading.set(1)
    try:
        await _until_one_ends(_operate(kube, settings, metrics, stop), election.hold())
    finally:
        metrics.leading.set(0)
        await election.release()


async def _stay_ready(metrics: Metrics) -> None:
    """Stay alive while this replica waits for the lead, and polls nothing."""
    while True:
        metrics.mark_alive()
        await asyncio.sleep(30)


async def _operate(kube: KubeClient, settings: Settings, metrics: Metrics, stop: asyncio.Event) -> None:
    """Watch, and look after all runs, until ``stop`` is set, or until a signal, which kopf handles."""
    await _wait_for_crd(kube, metrics)
    manager = Manager(kube, settings, metrics)
    scope: dict[str, Any] = {"namespaces": settings.namespaces} if settings.namespaces else {"clusterwide": True}
    watching = kopf.operator(
        registry=_handlers(manager, metrics),
        settings=_kopf_settings(settings),
        standalone=True,
        stop_flag=stop,
        **scope,
    )
    try:
        await _until_one_ends(manager.run(), watching)
        stop.set()
    finally:
        await manager.stop()


async def _wait_for_crd(kube: KubeClient, metrics: Metrics) -> None:
    """Wait until the CRD exists: kopf finds kinds once, at its start, and the CRD may come after the operator."""
    while not await kube.serves(f"{GROUP}/{VERSION}", PLURAL):
        _log.warning("waiting for the CustomResourceDefinition %s.%s", PLURAL, GROUP)
        metrics.mark_alive()
        await asyncio.sleep(_CRD_SECONDS)


async def _until_one_ends(*coroutines: Coroutine[Any, Any, None]) -> None:
    """Run all until the first ends, and then end the others. Raises what that one raised."""
    tasks = [asyncio.create_task(coroutine) for coroutine in coroutines]
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def _handlers(manager: Manager, metrics: Metrics) -> kopf.OperatorRegistry:
    registry = kopf.OperatorRegistry()

    @kopf.on.login(registry=registry)
    def log_in(**kwargs: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**kwargs) or kopf.login_with_kubeconfig(**kwargs)

    @kopf.on.event(GROUP, VERSION, PLURAL, registry=registry)
    async def on_run(event: kopf.RawEvent, **_: Any) -> None:
        metrics.mark_alive()
        body = dict(event["object"])
        if event["type"] == "DELETED":
            manager.run_gone(body)
        else:
            manager.run_changed(body)

    for version, kind, plural in CHILDREN:
        group, _, number = version.rpartition("/")

        @kopf.on.event(group, number, plural, labels=MANAGED_BY, registry=registry, id=f"on-{plural}")
        async def on_child(event: kopf.RawEvent, *, version: str = version, kind: str = kind, **_: Any) -> None:
            metrics.mark_alive()
            child = {**event["object"], "apiVersion": version, "kind": kind}
            manager.child_changed(child, gone=event["type"] == "DELETED")

    for version, kind, plural in UNKEPT:
        group, _, number = version.rpartition("/")

        @kopf.on.event(group, number, plural, labels=MANAGED_BY, registry=registry, id=f"on-{plural}")
        async def on_unkept(event: kopf.RawEvent, *, version: str = version, kind: str = kind, **_: Any) -> None:
            metrics.mark_alive()
            if event["type"] == "DELETED":
                manager.unkept_gone({**event["object"], "apiVersion": version, "kind": kind})

    return registry


class _NoEssence(kopf.DiffBaseStorage):
    """Storage that keeps nothing of an object to compare it with later, because our handlers get events, not changes.

    kopf's own copies every object three times at every event, which was most of the CPU time of a start.
    """

    def build(self, *, body: kopf.Body, extra_fields: Any = None) -> kopf.BodyEssence:
        return kopf.BodyEssence()

    def fetch(self, *, body: kopf.Body) -> kopf.BodyEssence | None:
        return None

    def store(self, *, body: kopf.Body, patch: kopf.Patch, essence: kopf.BodyEssence) -> None: ...


class _NoProgress(kopf.ProgressStorage):
    """Storage that keeps nothing of the progress of handlers, because ours have none."""

    def fetch(self, *, key: Any, body: kopf.Body) -> None: ...

    def store(self, *, key: Any, record: Any, body: kopf.Body, patch: kopf.Patch) -> None: ...

    def purge(self, *, key: Any, body: kopf.Body, patch: kopf.Patch) -> None: ...

    def touch(self, *, body: kopf.Body, patch: kopf.Patch, value: str | None) -> None: ...

    def clear(self, *, essence: kopf.BodyEssence) -> kopf.BodyEssence:
        return essence


def _kopf_settings(own: Settings) -> kopf.OperatorSettings:
    settings = kopf.OperatorSettings()
    settings.posting.enabled = False  # events are ours
    settings.persistence.diffbase_storage = _NoEssence()
    settings.persistence.progress_storage = _NoProgress()
    settings.watching.server_timeout = 240
    settings.watching.client_timeout = 300
    settings.watching.chunk_size = PAGE
    settings.watching.label_selectors[PLURAL] = own.run_selector
    for _, _, plural in (*CHILDREN, *UNKEPT):
        # on the server's side, so that pods of other owners take no memory
        settings.watching.label_selectors[plural] = ",".join(f"{key}={value}" for key, value in MANAGED_BY.items())
    settings.scanning.disabled = True  # kinds and namespaces are known; finding them out takes more rights
    return settings


if __name__ == "__main__":
    main()
