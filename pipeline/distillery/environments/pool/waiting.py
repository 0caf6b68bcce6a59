"""The waiting room for sessions whose server is away or full."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Awaitable, Callable

from distillery.environments.base import EnvironmentAway, Observation
from distillery.environments.pool.process import EnvironmentFailure

_log = logging.getLogger(__name__)

_FIRST_PAUSE, _MAX_PAUSE = 0.1, 5.0  # seconds between two tries
_LOG_SECONDS = 60.0


class WaitingRoom:
    """Sessions that wait in a queue; the first of them tries again now and then, and whenever another one left.

    Patience ends when the server answered to no session for so long: one that is full of sessions that play is waited
    for as long as they do.

    Args:
        patience: seconds.
    """

    def __init__(self, patience: float) -> None:
        self.waiting = 0
        self._patience = patience
        self._turn = asyncio.Lock()
        self._somebody_left = asyncio.Event()
        self._alive_at = float("-inf")
        self._logged_at = float("-inf")

    def mark_alive(self) -> None:
        """Note that the server answered."""
        self._alive_at = time.monotonic()

    def mark_left(self) -> None:
        """Note that a session was closed, which may have left room."""
        self._somebody_left.set()

    async def enter(self, attempt: Callable[[], Awaitable[Observation]]) -> Observation:
        """Return the observation of an attempt to open a session, repeated until it succeeds.

        Raises:
            EnvironmentFailure: patience is over.
        """
        if not self.waiting:
            with contextlib.suppress(EnvironmentAway):
                return await attempt()
        started_at = time.monotonic()
        self.waiting += 1
        try:
            async with self._turn:
                return await self._wait(attempt, started_at)
        finally:
            self.waiting -= 1

    async def _wait(self, attempt: Callable[[], Awaitable[Observation]], started_at: float) -> Observation:
        pause = _FIRST_PAUSE
        while True:
            self._somebody_left.clear()
            try:
                observation = await attempt()
            except EnvironmentAway as error:
                now = time.monotonic()
                if now - max(started_at, self._alive_at) >= self._patience:
                    raise EnvironmentFailure(f"{error} (for {self._patience:g} s)") from error
                if now - self._logged_at >= _LOG_SECONDS:
                    self._logged_at = now
                    _log.warning("%s; waiting for it up to %.0f s", error, self._patience)
                with contextlib.suppress(TimeoutError):
                    async with asyncio.timeout(pause):
                        await self._somebody_left.wait()
                pause = min(_MAX_PAUSE, 2 * pause)
            else:
                self.mark_alive()
                return observation
