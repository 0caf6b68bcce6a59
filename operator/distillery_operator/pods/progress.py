"""The progress of runs: polled at the pods of running stages, and written into the status every ten seconds.

While a round waits for failures of users, the progress is their number, which the recorders of serving pods report.
Progress has a field manager of its own, so that it never disturbs what the controller writes. It is for display only:
a pod that does not answer is skipped.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp

from distillery.core.contracts.progress import StageProgress
from distillery_operator.cache import Cache, RunKey
from distillery_operator.kube.client import ApiError, KubeClient
from distillery_operator.manifests.jobs import STATUS_PORT
from distillery_operator.model.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest, rfc3339
from distillery_operator.model.observed import serving_pods
from distillery_operator.model.phases import RunPhase
from distillery_operator.pods import client, feedback

_log = logging.getLogger(__name__)

MANAGER = "distillery-progress"
SECONDS = 10.0
_MAX_CONCURRENCY = 32
_MAX_PODS = 16  # of a run that are polled: each reports the progress of its whole stage


class ProgressWatcher:
    """The writer of the progress of all active runs, every ten seconds."""

    def __init__(self, kube: KubeClient, cache: Cache) -> None:
        self._kube = kube
        self._cache = cache
        self._written: dict[RunKey, dict[str, Any]] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        semaphore = asyncio.Semaphore(_MAX_CONCURRENCY)
        async with client.session() as session:
            while True:
                polls = [self._poll(key, session, semaphore) for key in list(self._cache.runs)]
                for ended in await asyncio.gather(*polls, return_exceptions=True):
                    if isinstance(ended, Exception):
                        _log.warning("the progress of a run was not polled", exc_info=ended)
                await asyncio.sleep(SECONDS)

    async def _poll(self, key: RunKey, session: aiohttp.ClientSession, semaphore: asyncio.Semaphore) -> None:
        body = self._cache.runs.get(key)
        phase = body.get("status", {}).get("phase") if body else None
        if body is None or (phase not in (RunPhase.RUNNING, RunPhase.WAITING) and key not in self._written):
            return
        observed = self._cache.observe(key, body["metadata"]["uid"])
        async with semaphore:
            if phase == RunPhase.WAITING:
                progress = waiting_progress(body, await feedback.count_failures(serving_pods(observed)))
            else:
                progress = await _poll_stage(observed.pods, session)
            await self._write(key, body, progress)

    async def _write(self, key: RunKey, body: Manifest, progress: dict[str, Any]) -> None:
        before = {k: v for k, v in self._written.get(key, {}).items() if k != "time"}
        if progress == before:
            return
        written = {**progress, "time": rfc3339(datetime.now(UTC))} if progress else {}
        metadata = {name: body["metadata"][name] for name in ("name", "namespace", "uid")}
        status = {"progress": written} if written else {}
        manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": metadata, "status": status}
        try:
            await self._kube.apply_status(manifest, manager=MANAGER)
        except ApiError as error:
            _log.debug("progress of %s/%s was not written: %s", *key, error)
            return
        if written:
            self._written[key] = written
        else:
            self._written.pop(key, None)


async def _poll_stage(pods: Iterable[Manifest], session: aiohttp.ClientSession) -> dict[str, Any]:
    """Return the progress of the first running stage whose pod answers; empty if none does."""
    running = [
        pod
        for pod in sorted(pods, key=lambda p: p["metadata"]["name"])
        if STAGE_LABEL in pod["metadata"].get("labels", {})
        and pod.get("status", {}).get("phase") == "Running"
        and pod["status"].get("podIP")
    ]
    polls = (
        partial(client.ask, session, pod, STATUS_PORT, "/progress", read=stage_progress) for pod in running[:_MAX_PODS]
    )
    return next(iter(await client.gather(polls)), {})


def waiting_progress(body: Manifest, failures: int) -> dict[str, Any]:
    """Return the progress of a run that waits for failures of users, as the status has it."""
    total: int = body["spec"]["rounds"]["trigger"]["minFailures"]
    done = min(failures, total)
    return {"stage": "", "done": done, "total": total, "unit": "failures of users", "text": f"{done}/{total}"}


def stage_progress(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return the progress as the status has it: ``812/1200 (9m)`` for people. The document of a pod is not trusted."""
    progress = StageProgress.from_json(document)
    done, total, eta = progress.done, progress.total, progress.eta_seconds
    text = f"{done}/{total}" if total else ""
    status: dict[str, Any] = {"stage": progress.stage[:63], "done": done, "total": total, "unit": progress.unit[:32]}
    if eta is None or done >= total:
        return {**status, "text": text}
    left = f"{eta // 60}m" if eta >= 60 else f"{eta}s"
    return {**status, "text": f"{text} ({left})", "etaSeconds": eta}
