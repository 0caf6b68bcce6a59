"""The progress of a stage, served by HTTP: the operator and Prometheus poll it.

On Kubernetes the operator has no access to the database of a run, and pods have none to the API server. So progress is
asked for, not pushed. Served only if ``$DISTILLERY_STATUS_PORT`` says so:

    /progress   {"stage": "r1-rollout", "done": 812, "total": 1200, "unit": "episodes", "etaSeconds": 540}
    /metrics    Prometheus' text format
"""

from __future__ import annotations

import logging
import os
import time
from types import TracebackType
from typing import Any, Self

from aiohttp import web
from prometheus_client import CollectorRegistry, Gauge, ProcessCollector, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4

_LOG_SECONDS = 15.0

_log = logging.getLogger(__name__)


class Status:
    """A stage's progress; an async context manager that serves it while entered."""

    def __init__(self, stage: str) -> None:
        self._stage = stage
        self._progress = (0, 0, "")
        self._first: tuple[float, int] | None = None
        self._logged = 0.0
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._done = Gauge(
            "distillery_stage_units_completed", "Units of work that are completed.", ["stage"], registry=self.registry
        )
        self._total = Gauge("distillery_stage_units", "Units of work of the stage.", ["stage"], registry=self.registry)
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        port = os.environ.get("DISTILLERY_STATUS_PORT")
        if port:
            app = web.Application()
            app.router.add_get("/progress", self._show_progress)
            app.router.add_get("/metrics", self._show_metrics)
            self._runner = web.AppRunner(app, access_log=None)
            await self._runner.setup()
            await web.TCPSite(self._runner, port=int(port)).start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._runner:
            await self._runner.cleanup()

    def report(self, done: int, total: int, unit: str) -> None:
        """Remember how far the stage is."""
        if self._first is None:
            self._first = (time.monotonic(), done)
        self._progress = (done, total, unit)
        now = time.monotonic()
        if total and (now - self._logged >= _LOG_SECONDS or done == total):
            self._logged = now
            eta = self.eta_seconds()
            left = f", {eta} s left" if eta and done < total else ""
            _log.info("stage %s: %d of %d %s%s", self._stage, done, total, unit, left)
        self._done.labels(self._stage).set(done)
        self._total.labels(self._stage).set(total)

    def eta_seconds(self) -> int | None:
        """Return the seconds to the end at the rate so far; None before there is one."""
        done, total, _ = self._progress
        if self._first is None or done <= self._first[1]:
            return None
        rate = (done - self._first[1]) / (time.monotonic() - self._first[0])
        return round((total - done) / rate)

    async def _show_progress(self, _: web.Request) -> web.Response:
        done, total, unit = self._progress
        told: dict[str, Any] = {"stage": self._stage, "done": done, "total": total, "unit": unit}
        return web.json_response({**told, "etaSeconds": self.eta_seconds()})

    async def _show_metrics(self, _: web.Request) -> web.Response:
        return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})
