"""The throttle of the requests to a server, and the time that it may be away: shared by all requests of a client."""

from __future__ import annotations

import asyncio
import logging
import math
import random
import time
from collections import deque
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

_log = logging.getLogger(__name__)

_LOG_SECONDS = 60.0
_BACK_SECONDS = 5.0  # the end of shorter waits is not logged
_MAX_HOLD = 60.0  # seconds that a gate stays closed where the server names no time


class ServerUnavailable(Exception):
    """The server did not answer for as long as the patience allows. Another attempt at the stage may succeed."""


class Throttle:
    """A gate that closes for all requests when the server asks for time, and a clock that starts when it fails.

    Patience is of the server, not of a request: it ends when no request was answered for so long. A server that is busy
    gets half as many requests at once as it had, and one more with each answer (as TCP does).

    Args:
        server: its URL, for the log.
        patience: seconds for which the server may be away.
        hold: seconds that the gate is closed at the first refusal for too many requests; doubles with each in a row.
        clock: for tests.
    """

    def __init__(
        self, server: str, *, patience: float, hold: float = 1.0, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._server = server
        self._patience = patience
        self._hold = hold
        self._clock = clock
        self._failing_since: float | None = None
        self._logged_at = -_LOG_SECONDS
        self._opens_at = 0.0
        self._spread = 0.0
        self._next_hold = hold
        self._in_flight = 0
        self._limit: int | None = None
        self._full = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self.answers = 0
        """Requests that were answered, whatever the answer."""

    @property
    def waiting(self) -> bool:
        """True if requests wait for the server now."""
        return self._failing_since is not None

    @asynccontextmanager
    async def slot(self) -> AsyncGenerator[None]:
        """Wait until a request may be sent; those that wait for a time together are let through one after another."""
        while True:
            if (wait := self._opens_at - self._clock()) > 0:
                await asyncio.sleep(wait + random.uniform(0, self._spread))  # noqa: S311 - jitter, not a secret
            elif self._limit is not None and self._in_flight >= self._limit:
                await self._wait_for_slot()
            else:
                break
        self._in_flight += 1
        try:
            yield
        finally:
            self._in_flight -= 1
            self._wake()

    async def _wait_for_slot(self) -> None:
        """Wait until a request that ended makes room for another."""
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiters.append(waiter)
        try:
            await waiter
        except asyncio.CancelledError:
            self._wake()  # this one may have been woken in place of another
            raise

    def _wake(self) -> None:
        """Let as many requests through as there are free slots."""
        free_slots = len(self._waiters) if self._limit is None else self._limit - self._in_flight
        while self._waiters and free_slots > 0:
            waiter = self._waiters.popleft()
            if not waiter.done():
                waiter.set_result(None)
                free_slots -= 1

    def record_answer(self) -> None:
        """Note an answer: the server is there."""
        self.answers += 1
        self._next_hold = self._hold
        if self._limit is not None:
            self._limit = self._limit + 1 if self._limit < self._full else None
        if self._failing_since is not None:
            lasted = self._clock() - self._failing_since
            self._failing_since = None
            if lasted >= _BACK_SECONDS:
                _log.info("%s answers again after %.0f s", self._server, lasted)

    def record_failure(self, problem: str, *, busy: bool, retry_after: float | None) -> None:
        """Note that a request was not answered.

        Args:
            problem: what happened, for the log.
            busy: the server refused it for too many requests.
            retry_after: seconds that the server asked for.

        Raises:
            ServerUnavailable: patience is over.
        """
        now = self._clock()
        if self._failing_since is None:
            self._failing_since = now
            if now - self._logged_at >= _LOG_SECONDS:
                self._logged_at = now
                _log.warning("%s; waiting for it up to %.0f s", problem, self._patience)
        if now - self._failing_since >= self._patience:
            raise ServerUnavailable(f"{problem} (no answer for {self._patience:g} s)")
        if busy and now >= self._opens_at:  # all that were in flight are refused together, and count once
            self._full = self._in_flight if self._limit is None else max(self._full, self._in_flight)
            self._limit = max(1, self._in_flight // 2)
            if retry_after is None:
                self._close(now, self._next_hold)
                self._next_hold = min(_MAX_HOLD, 2 * self._next_hold)
        if retry_after is not None:
            self._close(now, min(retry_after, self._patience))

    def _close(self, now: float, seconds: float) -> None:
        """Keep the gate closed for some seconds."""
        self._opens_at = max(self._opens_at, now + seconds)
        self._spread = seconds / 4


def parse_retry_after(header: str | None, *, now: datetime | None = None) -> float | None:
    """Return the seconds that a Retry-After header asks for, as a number or as a date; None without a usable one."""
    if not header:
        return None
    try:
        seconds = float(header)
    except ValueError:
        try:
            until = parsedate_to_datetime(header)
        except ValueError:
            return None
        seconds = (until.astimezone(UTC) - (now or datetime.now(UTC))).total_seconds()
    return max(0.0, seconds) if math.isfinite(seconds) else None
