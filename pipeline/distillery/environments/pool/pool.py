"""A pool of worker processes that plays many sessions at once, for a driver that runs in one asyncio loop.

    config = EnvironmentConfig("alfworld", options, folder)
    async with EnvironmentPool(config, processes=4, step_timeout=60) as pool:
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
from dataclasses import asdict, dataclass
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


@dataclass(frozen=True, slots=True)
class EnvironmentConfig:
    """The plain data from which each worker process builds the environment.

    Attributes:
        name: the name under which the environment is registered.
        options: ``spec.environment.options``.
        folder: the folder with the files that its ``prepare`` wrote.
    """

    name: str
    options: Mapping[str, Any]
    folder: Path

    def to_request(self) -> dict[str, Any]:
        """Return the first request to a worker process."""
        return {"environment": self.name, "options": dict(self.options), "folder": str(self.folder)}


class EnvironmentPool:
    """Worker processes of one environment. An async context manager: enter it to start them, leave it to end them."""

    def __init__(
        self, config: EnvironmentConfig, *, processes: int, step_timeout: float, patience: float = 1800.0
    ) -> None:
        """Describe the pool.

        Args:
            config: the environment.
            processes: the number of workers.
            step_timeout: seconds for one step, and for opening a session.
            patience: seconds to wait for a server that is away or full, while it answers to no session.
        """
        start = partial(WorkerProcess.start, config.to_request(), step_timeout)
        self._slots = [_WorkerSlot(start) for _ in range(processes)]
        self._numbers = itertools.count()
        self._waiting_room = WaitingRoom(patience)

    @property
    def waiting(self) -> bool:
        """True if sessions wait for a server now."""
        return self._waiting_room.waiting > 0

    async def __aenter__(self) -> Self:
        """Start the workers.

        Raises:
            EnvironmentConfigurationError: the environment can't be built as configured.
            EnvironmentFailure: it can't be built for another reason.
        """
        try:
            results = await asyncio.gather(*(slot.get_process() for slot in self._slots), return_exceptions=True)
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
        session = PooledSession(min(self._slots, key=lambda slot: slot.load), next(self._numbers), self._waiting_room)
        return session, await session._ask({"open": session._number, "task": asdict(task)})

    async def _stop(self) -> None:
        await asyncio.gather(*(slot.stop() for slot in self._slots))


class _WorkerSlot:
    """A slot for one process at a time, with ``load`` sessions."""

    def __init__(self, start: Callable[[], Awaitable[WorkerProcess]]) -> None:
        self.load = 0
        self._start = start
        self._lock = asyncio.Lock()
        self._process: WorkerProcess | None = None

    async def get_process(self) -> WorkerProcess:
        """Return the process of this slot, a new one if it ended."""
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

    def __init__(self, slot: _WorkerSlot, number: int, waiting_room: WaitingRoom) -> None:
        """Take up a slot."""
        self._slot = slot
        self._waiting_room = waiting_room
        self._number = number
        self._process: WorkerProcess | None = None
        """The process in which the requests so far were played."""
        self._played: list[tuple[Mapping[str, Any], str]] = []
        """The requests so far, each with the text that answered it."""
        self._open = True
        slot.load += 1

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
        self._release()
        if self._process:
            try:
                await self._process.ask({"close": self._number})
            except ProcessLost:
                pass  # and all it held
            except EnvironmentFailure as failure:
                _log.warning("a session failed when it was closed: %s", failure)
        self._waiting_room.mark_left()

    async def _ask(self, request: Mapping[str, Any]) -> Observation:
        if not self._open:
            raise EnvironmentFailure("the session is closed, or was lost by an earlier failure")
        lost = False
        try:
            while True:  # the process is lost at most once to each of the sessions that share it
                try:
                    observation = await self._observe(await self._restore_process(), request)
                    break
                except ProcessLost:
                    continue
                except EnvironmentAway as error:
                    if lost:
                        raise EnvironmentFailure(f"lost twice at one step: {error}") from error
                    lost, self._process = True, None  # played again, once the server is back
        except Exception:
            self._release()
            raise
        self._waiting_room.mark_alive()
        self._played.append((request, observation.text))
        return observation

    async def _restore_process(self) -> WorkerProcess:
        """Return the process, after playing the session again if it was lost with another one."""
        process = self._process
        if process and process.alive:
            return process
        self._process = process = await self._slot.get_process()
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

        return await (self._waiting_room.enter(ask) if "open" in request else ask())

    def _release(self) -> None:
        if self._open:
            self._open = False
            self._slot.load -= 1
