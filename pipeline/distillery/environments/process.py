"""One worker process as the pool sees it: started, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from typing import Any

from distillery.environments.base import EnvironmentConfigurationError

_START_LIMIT = 120.0  # seconds until a new process has imported and built the environment
_STOP_LIMIT = 5.0  # seconds for a process to end by itself when its input does
_LONGEST_ANSWER = 16 * 1024 * 1024  # bytes


class EnvironmentFailure(Exception):
    """The environment failed one session, which is lost; the message says how."""


class WorkerProcess:
    """A place for a worker process. After a crash or a hang it is empty until :meth:`start` is called again.

    Attributes:
        lock: to be held around everything asked: a worker works on one request at a time.
        load: how many sessions have their place here.
        generation: counts the processes that were started here; a session knows by it whether its process still lives.
    """

    def __init__(self, build: Mapping[str, Any], step_limit: float) -> None:
        """Describe the worker: its first request, and the seconds that it may take for any later one."""
        self.lock = asyncio.Lock()
        self.load = 0
        self.generation = 0
        self._build = build
        self._step_limit = step_limit
        self._process: Process | None = None

    @property
    def alive(self) -> bool:
        """Whether there is a process to ask."""
        return self._process is not None and self._process.returncode is None

    async def start(self) -> None:
        """Start a process and have it build the environment.

        Raises:
            EnvironmentConfigurationError: the environment can't be built as configured.
            EnvironmentFailure: it can't be built for another reason.
        """
        command = (sys.executable, "-m", "distillery.environments.worker")
        self._process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_LONGEST_ANSWER)
        self.generation += 1
        try:
            await self.ask(self._build, limit=_START_LIMIT)
        except BaseException:
            await self._kill()
            raise

    async def ask(self, request: Mapping[str, Any], *, limit: float | None = None) -> dict[str, Any]:
        """The worker's answer to a request. Whatever keeps it from answering in time ends the process.

        Raises:
            EnvironmentFailure: the environment raised, the process died, hung, or answered with garbage.
            EnvironmentConfigurationError: the environment raised it.
        """
        limit = self._step_limit if limit is None else limit
        process = self._process
        assert process is not None
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            async with asyncio.timeout(limit):
                process.stdin.write(json.dumps(request).encode() + b"\n")
                line = await process.stdout.readline()
            if not line.endswith(b"\n"):
                raise ConnectionError
            answer: Any = json.loads(line)
            if not isinstance(answer, dict):
                raise ValueError("not a JSON object")
        except TimeoutError:
            await self._kill()
            raise EnvironmentFailure(f"no answer within {limit:g} s; the worker process was ended") from None
        except ValueError as error:  # of the JSON, or of a line that is too long
            await self._kill()
            raise EnvironmentFailure(f"the worker process answered with garbage: {error}") from error
        except (ConnectionError, RuntimeError):  # uvloop raises the latter at a closed pipe
            raise EnvironmentFailure(f"the worker process died: {await self._cause()}") from None
        except asyncio.CancelledError:
            await self._kill()  # it would answer a question that nobody asks any more
            raise
        if "error" in answer:
            kind = EnvironmentConfigurationError if answer["configuration"] else EnvironmentFailure
            raise kind(answer["error"])
        return answer

    async def stop(self) -> None:
        """End the process, if there is one, by ending its input."""
        if self._process and self._process.stdin:
            self._process.stdin.close()
            await self._wait()
            await self._kill()

    async def _cause(self) -> str:
        """Why a process died whose output ended."""
        code = await self._wait()
        await self._kill()
        if code is None:
            return "it closed its output"
        if code >= 0:
            return f"exit code {code}"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"

    async def _kill(self) -> None:
        if self._process:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._wait()
            self._process = None

    async def _wait(self) -> int | None:
        """The exit code; None if the process doesn't end."""
        if not self._process:
            return None
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), _STOP_LIMIT)
        return None
