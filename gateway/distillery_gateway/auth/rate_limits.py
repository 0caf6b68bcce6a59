"""The limits of each key: how much may be asked at once and in a minute."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass, field

from distillery_gateway.auth.api_keys import Key
from distillery_gateway.errors import Refusal


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
class _Account:
    """A token bucket and a counter."""

    tokens: float
    updated: float
    running: int = 0
    body_bytes: int = 0


@dataclass
class Meter:
    """The accounts of all keys.

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
    _accounts: dict[str, _Account] = field(default_factory=dict)

    @contextmanager
    def admitted(self, key: Key | None) -> Generator[None]:
        """Count a request while it runs. Raises :class:`Refusal` (429, or 403 where a limit is 0) on entering."""
        if not self.per_key:
            yield
            return
        rate, most = self.limits.requests_per_minute, self.limits.max_concurrent_requests
        if key:
            rate = rate if key.requests_per_minute is None else key.requests_per_minute
            most = most if key.max_concurrent_requests is None else key.max_concurrent_requests
        if rate == 0 or most == 0:
            raise Refusal(403, "key_blocked", "This key may send no requests.")
        account = self._account(key.name if key else "", rate)
        if account.running >= most:
            raise Refusal(429, "concurrency_limit", f"At most {most} requests at once.", headers={"Retry-After": "1"})
        if rate is not None:
            if account.tokens < 1:
                wait = (1 - account.tokens) * 60 / rate
                message = f"At most {rate} requests a minute; try again in {wait:.0f} s."
                raise Refusal(429, "rate_limit", message, headers={"Retry-After": str(max(1, round(wait)))})
            account.tokens -= 1
        account.running += 1
        try:
            yield
        finally:
            account.running -= 1

    @contextmanager
    def bodies(self, key: Key | None) -> Generator[Callable[[int], None]]:
        """Count the bytes that a request holds until its end, as they come. The function raises :class:`Refusal`."""
        account, held = self._account(key.name if key else "", None), 0

        def hold(size: int) -> None:
            nonlocal held
            more = size - held
            if self.body_bytes + more > self._budget:
                raise Refusal(503, "overloaded", "Too many large requests; try again.", headers={"Retry-After": "1"})
            if self.per_key and account.body_bytes + more > self._budget // 2:
                message = f"At most {self._budget // 2} bytes of requests at once."
                raise Refusal(429, "bytes_limit", message, headers={"Retry-After": "1"})
            held += more
            account.body_bytes += more
            self.body_bytes += more

        try:
            yield hold
        finally:
            account.body_bytes -= held
            self.body_bytes -= held

    @property
    def _budget(self) -> int:
        return max(self.limits.bytes_in_flight, 2 * self.limits.max_body_bytes)

    def _account(self, name: str, rate: int | None) -> _Account:
        now = self.clock()
        account = self._accounts.setdefault(name, _Account(float(rate or 0), now))
        if rate is not None:
            account.tokens = min(float(rate), account.tokens + (now - account.updated) * rate / 60)
            account.updated = now
        return account
