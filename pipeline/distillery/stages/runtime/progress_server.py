"""The progress of a stage, served by HTTP: the operator and Prometheus poll it.

On Kubernetes the operator has no access to the database of a run, and pods have none to the API server. So the operator
polls the progress. It is served only if ``$DISTILLERY_STATUS_PORT`` is set:

    /progress   {"stage": "r1-rollout", "done": 812, "total": 1200, "unit": "episodes", "etaSeconds": 540}
    /metrics    Prometheus' text format
"""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Callable
from contextlib import AsyncExitStack
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from prometheus_client import CollectorRegistry, Gauge, ProcessCollector

from distillery.core import probes
from distillery.core.contracts.progress import StageProgress
from distillery.core.planner import StageId
from distillery.database.stages import StageStore

_LOG_SECONDS = 15.0
_REPORT_SECONDS = 2.0

_log = logging.getLogger(__name__)


class Status:
    """A stage's progress; an async context manager that serves it while entered."""

    def __init__(self, stage: str) -> None:
        self._progress = StageProgress(stage, 0, 0, "")
        self._first: tuple[float, int] | None = None
        self._logged = 0.0
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._done = Gauge(
            "distillery_stage_units_completed", "Units of work that are completed.", ["stage"], registry=self.registry
        )
        self._total = Gauge("distillery_stage_units", "Units of work of the stage.", ["stage"], registry=self.registry)
        self._served = AsyncExitStack()

    async def __aenter__(self) -> Self:
        port = os.environ.get("DISTILLERY_STATUS_PORT")
        if port:
            server = probes.serve(int(port), documents={"/progress": self.to_json}, registry=self.registry)
            await self._served.enter_async_context(server)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._served.aclose()

    def report(self, done: int, total: int, unit: str) -> None:
        """Remember how far the stage is, and log it from time to time."""
        if self._first is None:
            self._first = (time.monotonic(), done)
        stage = self._progress.stage
        self._progress = StageProgress(stage, done, total, unit)
        now = time.monotonic()
        if total and (now - self._logged >= _LOG_SECONDS or done == total):
            self._logged = now
            eta = self.eta_seconds()
            left = f", {eta} s left" if eta and done < total else ""
            _log.info("stage %s: %d of %d %s%s", stage, done, total, unit, left)
        self._done.labels(stage).set(done)
        self._total.labels(stage).set(total)

    def eta_seconds(self) -> int | None:
        """Return the seconds to the end at the rate so far; None before there is one."""
        done, total = self._progress.done, self._progress.total
        if self._first is None or done <= self._first[1]:
            return None
        rate = (done - self._first[1]) / (time.monotonic() - self._first[0])
        return round((total - done) / rate)

    def to_json(self) -> dict[str, Any]:
        """Return the document that /progress serves."""
        return replace(self._progress, eta_seconds=self.eta_seconds()).to_json()


class ProgressReporter:
    """The reports of a running stage, to its status and to the database.

    Args:
        status: of the stage's process.
        stages: of the run.
        stage: its name.
    """

    def __init__(self, status: Status, stages: StageStore, stage: StageId) -> None:
        self._status = status
        self._stages = stages
        self._stage = stage

    async def report(self, done: int, total: int, unit: str = "") -> None:
        """Report progress for displays and scripts."""
        self._status.report(done, total, unit)
        await self._stages.report_progress(self._stage, done=done, total=total, unit=unit)

    def from_thread(self, unit: str) -> Callable[[int, int], None]:
        """Return a function like :meth:`report` for work in a thread: call it with (done, total) at any rate."""
        loop, last = asyncio.get_running_loop(), 0.0

        def report(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last > _REPORT_SECONDS or done == total:
                last = time.monotonic()
                asyncio.run_coroutine_threadsafe(self.report(done, total, unit), loop)

        return report
