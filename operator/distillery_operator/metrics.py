"""The operator's metrics and probes."""

from __future__ import annotations

import time
from contextlib import AbstractAsyncContextManager

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

from distillery.core import probes

# Runs are listed every few minutes; the operator has lost the API server after so long without an answer.
_MAX_SILENT_SECONDS = 900.0


class Metrics:
    """Counters and gauges, and the port that serves them."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        PlatformCollector(registry=self.registry)
        registry = self.registry
        self.leading = Gauge("distillery_leader", "1 for the replica that leads.", registry=registry)
        self.runs = Gauge("distillery_runs", "Runs by phase.", ["phase"], registry=registry)
        self.failures = Counter("distillery_reconcile_errors", "Reconciliations that failed.", registry=registry)
        self.created = Counter("distillery_objects_created", "Objects created, by kind.", ["kind"], registry=registry)
        self.status_writes = Counter("distillery_status_writes", "Statuses written.", registry=registry)
        self._durations = Histogram(
            "distillery_reconcile_duration_seconds", "Time of a reconciliation.", registry=registry
        )
        self._last_answer = time.monotonic()

    def observe_reconciliation(self, started: float) -> None:
        """Observe how long a reconciliation took that began at ``started`` (monotonic seconds) and ended well."""
        self._durations.observe(time.monotonic() - started)

    def mark_alive(self) -> None:
        """Note that the API server answered, or sent an event."""
        self._last_answer = time.monotonic()

    @property
    def alive(self) -> bool:
        """True if the API server answered lately."""
        return time.monotonic() - self._last_answer < _MAX_SILENT_SECONDS

    def serve(self, port: int) -> AbstractAsyncContextManager[None]:
        """Serve the metrics and the probes while the returned context is entered."""
        return probes.serve(
            port,
            # a replica that waits for the lead is ready for it
            checks={"/healthz": self._find_silence, "/readyz": probes.is_alive},
            registry=self.registry,
        )

    def _find_silence(self) -> str:
        return "" if self.alive else "the API server is silent"
