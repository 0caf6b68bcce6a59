"""The gateway's metrics. Labels are names that operators chose, never texts of clients."""

from __future__ import annotations

import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from distillery_gateway.observers import ResponseObserver

_SECONDS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)


class Metrics:
    """Counters, by alias, model and key."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self.requests = Counter(
            "distillery_gateway_requests",
            "Requests that ended.",
            ["alias", "model", "key", "status"],
            registry=registry,
        )
        self.seconds = Histogram(
            "distillery_gateway_request_duration_seconds",
            "From arrival to end.",
            ["alias"],
            registry=registry,
            buckets=_SECONDS,
        )
        self.first_byte = Histogram(
            "distillery_gateway_time_to_first_byte_seconds", "From arrival to the first byte of the answer.", ["alias"],
            registry=registry, buckets=_SECONDS,
        )  # fmt: skip
        self.running = Gauge("distillery_gateway_requests_in_flight", "Requests in progress.", registry=registry)
        self.cancelled = Counter("distillery_gateway_requests_cancelled", "Clients that went away.", registry=registry)
        self.closed = Counter(
            "distillery_gateway_connections_closed", "Connections that the gateway ended, by reason.", ["reason"],
            registry=registry,
        )  # fmt: skip
        self.captured = Counter(
            "distillery_gateway_captured_records", "Requests and outcomes of sessions: kept, or why not.", ["result"],
            registry=registry,
        )  # fmt: skip
        self.outcomes = Counter(
            "distillery_gateway_outcomes", "Sessions whose clients reported an outcome.", ["alias", "model", "success"],
            registry=registry,
        )  # fmt: skip
        self.generation = Gauge("distillery_gateway_routing_generation", "Of the table in use.", registry=registry)


class FirstByteTimer(ResponseObserver):
    """The observer that measures the time to the first byte of a body: vLLM sends its headers before it generates.

    Args:
        metrics: the gateway's.
        alias: the model's name for clients.
        started: when the request arrived, in monotonic seconds.
    """

    def __init__(self, metrics: Metrics, alias: str, started: float) -> None:
        self._metrics = metrics
        self._alias = alias
        self._started = started
        self._observed = False

    def chunk(self, data: bytes) -> None:
        """Measure the time at the first part of the body."""
        if not self._observed:
            self._observed = True
            self._metrics.first_byte.labels(self._alias).observe(time.monotonic() - self._started)
