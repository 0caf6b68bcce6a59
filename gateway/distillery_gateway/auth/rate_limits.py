"""The limits of each key: its concurrent requests, its requests in a minute, and the bytes that they hold."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from distillery_gateway.auth.api_keys import Key
from distillery_gateway.errors import ApiError


@dataclass(frozen=True, slots=True)
class Limits:
    """The gateway's limits, which apply if a key has none of its own.

    Attributes:
        max_body_bytes: of a request.
        body_timeout_seconds: for a request to arrive.
        max_tokens: that may be asked for.
        max_choices: that may be asked for.
        requests_per_minute: of a key; None for no limit.
        max_concurrent_requests: requests of a key at the same time.
        bytes_in_flight: of the bodies of all running requests, or two bodies if they are larger; a key may have half.
        head_bytes: of a request's line and headers.
        head_seconds: for them to arrive.
        send_seconds: for a client that stopped reading its answer to continue.
        waiting_connections: connections that have not sent a request yet.
        max_connections_per_address: connections of an address; of a network of 64 bits for IPv6.
    """

    max_body_bytes: int = 2_000_000
    body_timeout_seconds: float = 30.0
    max_tokens: int = 8192
    max_choices: int = 8
    requests_per_minute: int | None = None
    max_concurrent_requests: int = 256
    bytes_in_flight: int = 128_000_000
    head_bytes: int = 32_768
    head_seconds: float = 10.0
    send_seconds: float = 60.0
    waiting_connections: int = 512
    max_connections_per_address: int = 1024


@dataclass
class TokenBucket:
    """The requests that a key may still send, and those that run.

    Attributes:
        tokens: requests that may be sent now.
        updated: when the tokens were counted.
        running: requests in progress.
        body_bytes: of their bodies.
    """

    tokens: float
    updated: float
    running: int = 0
    body_bytes: int = 0

    def refill(self, rate: int, now: float) -> None:
        """Add the tokens of the time that has passed, at so many a minute."""
        self.tokens = min(float(rate), self.tokens + (now - self.updated) * rate / 60)
        self.updated = now

    def take(self, rate: int) -> None:
        """Use up a token. Raises :class:`ApiError` (429) if there is none."""
        if self.tokens < 1:
            wait = (1 - self.tokens) * 60 / rate
            message = f"At most {rate} requests a minute; try again in {wait:.0f} s."
            raise ApiError(429, "rate_limit", message, headers={"Retry-After": str(max(1, round(wait)))})
        self.tokens -= 1


@dataclass
class RateLimiter:
    """The limits of all keys, and what their requests use of them.

    Args:
        limits: the gateway's.
        clock: monotonic seconds.
        per_key: whether keys are held to their limits: not if other gateways, which do, send all requests.
        body_bytes: of all running requests.
    """

    limits: Limits
    clock: Callable[[], float] = time.monotonic
    per_key: bool = True
    body_bytes: int = 0
    _buckets: dict[str, TokenBucket] = field(default_factory=dict)

    @contextmanager
    def admit(self, key: Key | None) -> Generator[None]:
        """Count a request while it runs. Raises :class:`ApiError` (429, or 403 where a limit is 0) on entering."""
        if not self.per_key:
            yield
            return
        rate, concurrency = self._limits_of(key)
        if rate == 0 or concurrency == 0:
            raise ApiError(403, "key_blocked", "This key may send no requests.")
        bucket = self._bucket(key, rate)
        if bucket.running >= concurrency:
            message = f"At most {concurrency} requests at once."
            raise ApiError(429, "concurrency_limit", message, headers={"Retry-After": "1"})
        if rate is not None:
            bucket.take(rate)
        bucket.running += 1
        try:
            yield
        finally:
            bucket.running -= 1

    @contextmanager
    def reserve_body(self, key: Key | None) -> Generator[Callable[[int], None]]:
        """Count the bytes that a request holds until its end, as they come. The function raises :class:`ApiError`."""
        bucket, reserved = self._bucket(key, None), 0

        def reserve(size: int) -> None:
            nonlocal reserved
            more = size - reserved
            if self.body_bytes + more > self._budget:
                raise ApiError(503, "overloaded", "Too many large requests; try again.", headers={"Retry-After": "1"})
            if self.per_key and bucket.body_bytes + more > self._budget // 2:
                message = f"At most {self._budget // 2} bytes of requests at once."
                raise ApiError(429, "bytes_limit", message, headers={"Retry-After": "1"})
            reserved += more
            bucket.body_bytes += more
            self.body_bytes += more

        try:
            yield reserve
        finally:
            bucket.body_bytes -= reserved
            self.body_bytes -= reserved

    @property
    def _budget(self) -> int:
        return max(self.limits.bytes_in_flight, 2 * self.limits.max_body_bytes)

    def _limits_of(self, key: Key | None) -> tuple[int | None, int]:
        """Return the requests a minute, None for no limit, and the concurrent requests."""
        rate, concurrency = self.limits.requests_per_minute, self.limits.max_concurrent_requests
        if key and key.requests_per_minute is not None:
            rate = key.requests_per_minute
        if key and key.max_concurrent_requests is not None:
            concurrency = key.max_concurrent_requests
        return rate, concurrency

    def _bucket(self, key: Key | None, rate: int | None) -> TokenBucket:
        now = self.clock()
        bucket = self._buckets.setdefault(key.name if key else "", TokenBucket(float(rate or 0), now))
        if rate is not None:
            bucket.refill(rate, now)
        return bucket
