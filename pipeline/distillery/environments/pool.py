"""Plays many sessions at once in worker processes, for a driver that runs in one asyncio loop.

    async with EnvironmentPool("alfworld", options, folder, processes=4, step_timeout=60) as pool:
        session, observation = await pool.open(task)
        observation = await session.step("go to desk 1")
        await session.close()

Engines aren't thread-safe, leak, crash and hang. So they live in processes, each of which holds many sessions and works
on one request at a time: the time-out's clock runs only while the environment does. What goes wrong in a request costs
the session whose request it was, by an :class:`EnvironmentFailure`. If its process went with it, the other sessions
there are played again, from their actions, in a new process when they are next asked for. Environments are
deterministic; one that answers otherwise than the first time fails.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from distillery.environments import wire
from distillery.environments.base import Observation, Task
from distillery.environments.process import EnvironmentFailure as EnvironmentFailure
from distillery.environments.process import WorkerProcess

_log = logging.getLogger(__name__)


class EnvironmentPool:
    """Worker processes of one environment. An async context manager: enter it to start them, leave it to end them."""

    def __init__(
        self, name: str, options: Mapping[str, Any], folder: Path, *, processes: int, step_timeout: float
    ) -> None:
        """Describe the pool.

        Args:
            name: under which the environment is registered.
            options: the environment's, as plain data.
            folder: the environment's.
            processes: how many workers.
            step_timeout: seconds for one step, and for opening a session, which also loads the engine the first time.
        """
        build = {"environment": name, "options": dict(options), "folder": str(folder)}
        self._workers = [WorkerProcess(build, step_timeout) for _ in range(processes)]
        self._numbers = itertools.count()

    async def __aenter__(self) -> Self:
        """Start the workers.

        Raises:
            EnvironmentConfigurationError: the environment can't be built as configured.
            EnvironmentFailure: it can't be built for another reason.
        """
        try:
            results = await asyncio.gather(*(worker.start() for worker in self._workers), return_exceptions=True)
            for error in filter(None, results):
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
        """Open a session in the worker that holds the fewest.

        Raises:
            EnvironmentFailure: this session can't be opened.
            EnvironmentConfigurationError: none can.
        """
        session = PooledSession(min(self._workers, key=lambda worker: worker.load), next(self._numbers))
        return session, await session._ask({"open": session._number, "task": asdict(task)})

    async def _stop(self) -> None:
        await asyncio.gather(*(worker.stop() for worker in self._workers))


class PooledSession:
    """A session in a worker process, from :meth:`EnvironmentPool.open`. Its steps must follow one another."""

    def __init__(self, worker: WorkerProcess, number: int) -> None:
        """Take a place in a worker."""
        self._worker = worker
        self._number = number
        self._generation = 0
        self._played: list[tuple[Mapping[str, Any], str]] = []
        """The requests so far, each with the text that answered it."""
        self._open = True
        worker.load += 1

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
        async with self._worker.lock:
            if self._worker.alive and self._worker.generation == self._generation:
                try:
                    await self._worker.ask({"close": self._number})
                except EnvironmentFailure as failure:
                    _log.warning("a session failed when it was closed: %s", failure)

    async def _ask(self, request: Mapping[str, Any]) -> Observation:
        if not self._open:
            raise EnvironmentFailure("the session is closed, or was lost by an earlier failure")
        try:
            async with self._worker.lock:
                await self._restore()
                observation = await self._observe(request)
        except Exception:
            self._leave()
            raise
        self._played.append((request, observation.text))
        return observation

    async def _restore(self) -> None:
        """Play the session again where its process was lost with another session."""
        if not self._worker.alive:
            await self._worker.start()
        if self._generation == self._worker.generation:
            return
        self._generation = self._worker.generation
        for request, text in self._played:
            again = (await self._observe(request)).text
            if again != text:
                await self._worker.ask({"close": self._number})
                raise EnvironmentFailure(
                    "the environment isn't deterministic: played again after its process was lost, "
                    f"it answered {again!r} where it had answered {text!r}"
                )

    async def _observe(self, request: Mapping[str, Any]) -> Observation:
        return wire.decode((await self._worker.ask(request))["observation"])

    def _leave(self) -> None:
        if self._open:
            self._open = False
            self._worker.load -= 1
