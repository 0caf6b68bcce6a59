"""The operator's metrics and probes."""

from __future__ import annotations

import time

from aiohttp import web
from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

# Runs are listed every few minutes; the operator has lost the API server after so long without an answer.
_MAX_SILENT_SECONDS = 900.0


class Metrics:
    """Counters and gauges, served at /metrics; /healthz and /readyz for probes."""

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

    def application(self) -> web.Application:
        """Return the web application for probes and Prometheus."""

        async def metrics(_: web.Request) -> web.Response:
            return web.Response(body=generate_latest(self.registry), headers={"Content-Type": CONTENT_TYPE_PLAIN_0_0_4})

        async def healthy(_: web.Request) -> web.Response:
            return (
                web.Response(text="ok\n") if self.alive else web.Response(status=503, text="the API server is silent\n")
            )

        async def ready(_: web.Request) -> web.Response:
            return web.Response(text="ok\n")  # a replica that waits for the lead is ready for it

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        app.router.add_get("/healthz", healthy)
        app.router.add_get("/readyz", ready)
        return app
