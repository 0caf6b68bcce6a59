"""Workers of a stage that die are started again one by one: with real processes."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

from distillery.local.workers import work


class Script:
    """Workers that end with the given exit codes, one start after the other."""

    def __init__(self, folder: Path, *codes: list[int]) -> None:
        self.folder = folder
        self.codes = codes
        self.starts = Counter[int]()

    async def start(self, index: int) -> asyncio.subprocess.Process:
        code = self.codes[index][self.starts[index]]
        self.starts[index] += 1
        wait = "import time; time.sleep(600)" if code < 0 else f"raise SystemExit({code})"
        return await asyncio.create_subprocess_exec(sys.executable, "-c", wait)


async def test_worker_starts_again_within_its_own_retries_when_it_fails(tmp_path: Path):
    script = Script(tmp_path, [1, 1, 0], [0], [9, 9, 0])
    assert await work(script.start, 3, max_retries=2) == [0, 0, 0]
    assert script.starts == {0: 3, 1: 1, 2: 3}


async def test_work_succeeds_when_one_of_two_workers_gave_up(tmp_path: Path):
    script = Script(tmp_path, [1, 1], [0])
    assert sorted(await work(script.start, 2, max_retries=1)) == [0, 1]


async def test_workers_end_immediately_when_the_configuration_is_wrong(tmp_path: Path):
    script = Script(tmp_path, [-1], [78, 0])
    began = time.monotonic()
    assert await work(script.start, 2, max_retries=3) == [78]
    assert time.monotonic() - began < 60
    assert script.starts == {0: 1, 1: 1}


async def test_workers_are_terminated_when_their_task_is_cancelled(tmp_path: Path):
    script = Script(tmp_path, [-1])
    started: list[asyncio.subprocess.Process] = []

    async def start(index: int) -> asyncio.subprocess.Process:
        started.append(await script.start(index))
        return started[-1]

    with pytest.raises(TimeoutError):
        await asyncio.wait_for(work(start, 1, max_retries=3), 0.5)
    assert started[0].returncode == -signal.SIGTERM
    with pytest.raises(ProcessLookupError):
        os.kill(started[0].pid, 0)
