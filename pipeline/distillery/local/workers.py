"""The worker processes of a stage: each is started again when it dies, with retries of its own."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable

from distillery.core.contracts.stage_result import CONFIGURATION_ERROR

# Time for a stage to write its checkpoint after SIGTERM.
_GRACE_SECONDS = 60


async def work(start: Callable[[int], Awaitable[Process]], count: int, *, max_retries: int) -> list[int]:
    """Run the workers of a stage to their ends.

    One that used its retries up leaves the work to the others. One that finds the configuration wrong ends them all.
    However this ends, no process is left.

    Args:
        start: starts the worker of an index.
        count: of workers.
        max_retries: of each.

    Returns:
        The exit codes that workers ended with for good, in the order in which they did.
    """
    processes: dict[int, Process] = {}

    async def run(index: int) -> int:
        """Run a worker until it ends for good, and return its exit code."""
        for retries in range(max_retries, -1, -1):
            processes[index] = await start(index)
            code = await processes[index].wait()
            if code in (0, CONFIGURATION_ERROR) or not retries:
                return code
        raise AssertionError("the last attempt returns")

    tasks = [asyncio.create_task(run(index)) for index in range(count)]
    codes = list[int]()
    try:
        for ended in asyncio.as_completed(tasks):
            codes.append(await ended)
            if codes[-1] == CONFIGURATION_ERROR:
                break
        return codes
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await _end(list(processes.values()))


async def _end(processes: list[Process]) -> None:
    """Ask the processes that still run to stop, then make them."""
    alive = [process for process in processes if process.returncode is None]
    for process in alive:
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGTERM)
    for process in alive:
        try:
            await asyncio.wait_for(process.wait(), _GRACE_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()
