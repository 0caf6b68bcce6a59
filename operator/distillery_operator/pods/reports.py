"""The reports of the serving pods of a run: when to poll them, and when to forget them."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from distillery_operator.decide.canary.plan import POLL_INTERVAL_SECONDS, needs_polling
from distillery_operator.decide.canary.pods import list_pods_to_poll
from distillery_operator.model.observed import Observed, serving_pods
from distillery_operator.model.phases import RunPhase
from distillery_operator.pods import feedback, serving
from distillery_operator.polling import FAILURES_SECONDS


class PodReports:
    """The last reports of the serving pods of a run.

    A pod that reported that it serves what it should is not polled again. While there is a canary, or while its servers
    still exist, all pods are polled every few seconds.
    """

    def __init__(self) -> None:
        self._reports: dict[str, serving.PodReport] = {}
        self._last_poll = -math.inf
        self._last_report = time.monotonic()

    async def poll(self, status: Mapping[str, Any], observed: Observed) -> Observed:
        """Poll the pods that are due, and return the objects with all reports."""
        names = {pod["metadata"]["uid"]: pod["metadata"]["name"] for pod in serving_pods(observed)}
        self._expire(names)
        now, watched = time.monotonic(), needs_polling(status, observed)
        if not watched:
            self._last_report = now
        polls_all = watched and now - self._last_poll >= POLL_INTERVAL_SECONDS
        generations = {uid: report.generation for uid, report in self._reports.items()}
        if pods := list_pods_to_poll(observed, generations, canary_in_progress=polls_all):
            reports = await serving.poll_pods(pods)
            self._reports |= reports
            self._last_report = now if reports else self._last_report
        self._last_poll = now if polls_all else self._last_poll
        return self._merge(observed, names, seconds_since_last_report=now - self._last_report)

    def _expire(self, names: Mapping[str, str]) -> None:
        """Forget the reports of pods that no longer serve."""
        self._reports = {uid: report for uid, report in self._reports.items() if uid in names}

    def _merge(self, observed: Observed, names: Mapping[str, str], *, seconds_since_last_report: float) -> Observed:
        reports = {names[uid]: report for uid, report in self._reports.items()}
        return replace(
            observed,
            generations={name: report.generation for name, report in reports.items()},
            problems={name: report.problem for name, report in reports.items() if report.problem},
            traffic={name: report.traffic for name, report in reports.items()},
            seconds_since_last_report=seconds_since_last_report,
        )


class FailureCount:
    """The number of failures of users since the last round, polled while a round waits for them."""

    def __init__(self) -> None:
        self._failures = 0
        self._last_poll = -math.inf

    async def poll(self, phase: str, observed: Observed) -> int:
        """Return the number of failures, polled if it is due. An old number is 0: the round that it started used it."""
        age = time.monotonic() - self._last_poll
        if phase == RunPhase.WAITING and age >= FAILURES_SECONDS * 0.9:
            self._failures = await feedback.count_failures(serving_pods(observed))
            self._last_poll, age = time.monotonic(), 0.0
        return self._failures if age < 2 * FAILURES_SECONDS else 0

    def clear(self) -> None:
        """Forget the number."""
        self._last_poll = -math.inf
