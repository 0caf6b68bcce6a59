"""Progress: asked for at the pods of running stages, and written into the status at most every ten seconds.

Where a round waits for failures of users, the recorders of serving pods are asked how many there are. By a field
manager of its own, so that it never disturbs what the controller writes. A pod that does not answer is left alone:
progress is for show.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from functools import partial
from typing import Any

import aiohttp

from distillery_operator.cache import Cache, RunKey
from distillery_operator.decide.decide import WAITING
from distillery_operator.kube.client import ApiError, KubeClient
from distillery_operator.manifests.jobs import STATUS_PORT
from distillery_operator.manifests.names import STAGE_LABEL
from distillery_operator.model.objects import Manifest
from distillery_operator.model.observed import serving_pods
from distillery_operator.pods import client, feedback

_log = logging.getLogger(__name__)

MANAGER = "distillery-progress"
SECONDS = 10.0
_AT_ONCE = 32
_MAX_PODS = 16  # of a run that are asked: each tells the progress of its whole stage


class ProgressWatcher:
    """The writer of the progress of all active runs, every ten seconds."""

    def __init__(self, kube: KubeClient, cache: Cache) -> None:
        self._kube = kube
        self._cache = cache
        self._written: dict[RunKey, dict[str, Any]] = {}

    async def run(self) -> None:
        """Watch until cancelled."""
        room = asyncio.Semaphore(_AT_ONCE)
        async with client.session() as session:
            while True:
                looks = [self._look(key, session, room) for key in list(self._cache.runs)]
                for ended in await asyncio.gather(*looks, return_exceptions=True):
                    if isinstance(ended, Exception):
                        _log.warning("the progress of a run was not looked at", exc_info=ended)
                await asyncio.sleep(SECONDS)

    async def _look(self, key: RunKey, session: aiohttp.ClientSession, room: asyncio.Semaphore) -> None:
        body = self._cache.runs.get(key)
        phase = body.get("status", {}).get("phase") if body else None
        if body is None or (phase not in ("Running", WAITING) and key not in self._written):
            return
        observed = self._cache.observed(key, body["metadata"]["uid"])
        async with room:
            if phase == WAITING:
                told = gathered(body, await feedback.failures(serving_pods(observed)))
            else:
                told = await _ask(observed.pods, session)
            await self._write(key, body, told)

    async def _write(self, key: RunKey, body: Manifest, told: dict[str, Any]) -> None:
        before = {k: v for k, v in self._written.get(key, {}).items() if k != "time"}
        if told == before:
            return
        progress = {**told, "time": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")} if told else {}
        named = {name: body["metadata"][name] for name in ("name", "namespace", "uid")}
        status = {"progress": progress} if progress else {}
        manifest = {"apiVersion": body["apiVersion"], "kind": body["kind"], "metadata": named, "status": status}
        try:
            await self._kube.apply_status(manifest, manager=MANAGER)
        except ApiError as error:
            _log.debug("progress of %s/%s was not written: %s", *key, error)
            return
        if told:
            self._written[key] = progress
        else:
            self._written.pop(key, None)


async def _ask(pods: Iterable[Manifest], session: aiohttp.ClientSession) -> dict[str, Any]:
    """The progress of the first running stage whose pod answers; empty if none does."""
    running = [
        pod
        for pod in sorted(pods, key=lambda p: p["metadata"]["name"])
        if STAGE_LABEL in pod["metadata"].get("labels", {})
        and pod.get("status", {}).get("phase") == "Running"
        and pod["status"].get("podIP")
    ]
    asked = (partial(client.ask, session, pod, STATUS_PORT, "/progress", read=describe) for pod in running[:_MAX_PODS])
    return next(iter(await client.gather(asked)), {})


def gathered(body: Manifest, failures: int) -> dict[str, Any]:
    """Return the progress of a run that waits, as it stands in the status."""
    wanted: int = body["spec"]["rounds"]["trigger"]["minFailures"]
    done = min(failures, wanted)
    return {"stage": "", "done": done, "total": wanted, "unit": "failures of users", "text": f"{done}/{wanted}"}


def describe(told: Mapping[str, Any]) -> dict[str, Any]:
    """Return the progress as the status has it: ``812/1200 (9m)`` for the eye. What a pod says is not trusted."""
    done, total, eta = int(told["done"]), int(told["total"]), told.get("etaSeconds")
    made: dict[str, Any] = {
        "stage": str(told["stage"])[:63],
        "done": done,
        "total": total,
        "unit": str(told["unit"])[:32],
        "text": f"{done}/{total}" if total else "",
    }
    if isinstance(eta, int) and done < total:
        left = f"{eta // 60}m" if eta >= 60 else f"{eta}s"
        made |= {"etaSeconds": eta, "text": f"{made['text']} ({left})"}
    return made
