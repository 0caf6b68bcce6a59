"""A pool of worker processes that plays many sessions at once, for a driver that runs in one asyncio loop.

    async with EnvironmentPool("alfworld", options, folder, processes=4, step_timeout=60) as pool:
        session, observation = await pool.open(task)
        observation = await session.step("go to desk 1")
        await session.close()

Engines aren't thread-safe, leak, crash and hang. So they live in processes, each of which holds many sessions and works
on one request after the other: the time-out's clock runs only while the environment does. What goes wrong in a request
costs the session whose request it was, by an :class:`EnvironmentFailure`. If its process went with it, the other
sessions there are played again, from their actions, in a new process when they are next asked for. Environments are
deterministic; one that answers otherwise than the first time fails.

Environments that only ask a server may play the sessions of a process at once (``concurrent``). While the server is
away or full, sessions wait for it here, where nobody is kept from playing.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import asdict
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distillery.environments.base import EnvironmentAway, Observation, Task
from distillery.environments.pool import wire
from distillery.environments.pool.process import EnvironmentFailure as EnvironmentFailure
from distillery.environments.pool.process import ProcessLost, WorkerProcess
from distillery.environments.pool.waiting import WaitingRoom

_log = logging.getLogger(__name__)


class EnvironmentPool:
    """Worker processes of one environment. An async context manager: enter it to start them, leave it to end them."""

    def __init__(
        self,
        name: str,
        options: Mapping[str, Any],
        folder: Path,
        *,
        processes: int,
        step_timeout: float,
        patience: float = 1800.0,
    ) -> None:
        """Describe the pool.

        Args:
            name: under which the environment is registered.
            options: the environment's, as plain data.
            folder: the environment's.
            processes: how many workers.
            step_timeout: seconds for one step, and for opening a session.
            patience: seconds to wait for a server that is away or full, while it answers to no session.
        """
        build = {"environment": name, "options": dict(options), "folder": str(folder)}
        self._places = [_Place(partial(WorkerProcess.start, build, step_timeout)) for _ in range(processes)]
        self._numbers = itertools.count()
        self._room = WaitingRoom(patience)

    @property
    def waiting(self) -> bool:
        """True if sessions wait for a server now."""
        return self._room.waiting > 0

    async def __aenter__(self) -> Self:
        """Start the workers.

        Raises:
            EnvironmentConfigurationError: the environment can't be built as configured.
            EnvironmentFailure: it can't be built for another reason.
        """
        try:
            results = await asyncio.gather(*(place.process() for place in self._places), return_exceptions=True)
            for error in results:
                if isinstance(error, BaseException):
                    raise error
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the workers, and with them the sessions that are still open."""
        await self._stop()

    async def open(self, task: Task) -> tuple[PooledSession, Observation]:
        """Open a session where the fewest are.

        Raises:
            EnvironmentFailure: this session can't be opened.
            EnvironmentConfigurationError: none can.
        """
        session = PooledSession(min(self._places, key=lambda place: place.load), next(self._numbers), self._room)
        return session, await session._ask({"open": session._number, "task": asdict(task)})

    async def _stop(self) -> None:
        await asyncio.gather(*(place.stop() for place in self._places))


class _Place:
    """Where there is one process at a time, and ``load`` sessions."""

    def __init__(self, start: Callable[[], Awaitable[WorkerProcess]]) -> None:
        self.load = 0
        self._start = start
        self._lock = asyncio.Lock()
        self._process: WorkerProcess | None = None

    async def process(self) -> WorkerProcess:
        """The process that is here, a new one if it ended."""
        async with self._lock:
            if self._process is None or not self._process.alive:
                await self._clear()
                self._process = await self._start()
            return self._process

    async def stop(self) -> None:
        """End the process, if there is one."""
        async with self._lock:
            await self._clear()

    async def _clear(self) -> None:
        if self._process:
            await self._process.stop()
            self._process = None


class PooledSession:
    """A session in a worker process, from :meth:`EnvironmentPool.open`. Its steps must follow one another."""

    def __init__(self, place: _Place, number: int, room: WaitingRoom) -> None:
        """Take a place."""
        self._place = place
        self._room = room
        self._number = number
        self._process: WorkerProcess | None = None
        """That has played what was played."""
        self._played: list[tuple[Mapping[str, Any], str]] = []
        """The requests so far, each with the text that answered it."""
        self._open = True
        place.load += 1

    async def step(self, action: str) -> Observation:
        """Carry out one action.

        Raises:
            EnvironmentFailure: the environment failed; the session is lost.
        """
        return await self._ask({"step": self._number, "action": action})

    async def close(self) -> None:
        """Free what the session holds. Harmless for one that is lost or closed."""
        if not self._open:
            return
        self._leave()
        if self._process:
            try:
                await self._process.ask({"close": self._number})
            except ProcessLost:
                pass  # and all it held
            except EnvironmentFailure as failure:
                _log.warning("a session failed when it was closed: %s", failure)
        self._room.leave()

    async def _ask(self, request: Mapping[str, Any]) -> Observation:
        if not self._open:
            raise EnvironmentFailure("the session is closed, or was lost by an earlier failure")
        lost = False
        try:
            while True:  # the process is lost at most once to each of the sessions that share it
                try:
                    observation = await self._observe(await self._restored(), request)
                    break
                except ProcessLost:
                    continue
                except EnvironmentAway as error:
                    if lost:
                        raise EnvironmentFailure(f"lost twice at one step: {error}") from error
                    lost, self._process = True, None  # played again, once the server is back
        except Exception:
            self._leave()
            raise
        self._room.alive()
        self._played.append((request, observation.text))
        return observation

    async def _restored(self) -> WorkerProcess:
        """The process, in which the session was played again if it was lost with another one."""
        process = self._process
        if process and process.alive:
            return process
        self._process = process = await self._place.process()
        for request, text in self._played:
            again = (await self._observe(process, request)).text
            if again != text:
                await process.ask({"close": self._number})
                raise EnvironmentFailure(
                    "the environment isn't deterministic: played again after its process was lost, "
                    f"it answered {again!r} where it had answered {text!r}"
                )
        return process

    async def _observe(self, process: WorkerProcess, request: Mapping[str, Any]) -> Observation:
        async def ask() -> Observation:
            return wire.decode((await process.ask(request))["observation"])

        return await (self._room.enter(ask) if "open" in request else ask())

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._place.load -= 1
