"""One worker process as the pool sees it: started, asked, ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections import deque
from collections.abc import Mapping
from typing import Any, Self

from distillery.environments.base import EnvironmentConfigurationError

_START_LIMIT = 120.0  # seconds until a new process has imported and built the environment
_STOP_LIMIT = 5.0  # seconds for a process to end by itself when its input does
_LONGEST_ANSWER = 16 * 1024 * 1024  # bytes


class EnvironmentFailure(Exception):
    """The environment failed one session, which is lost; the message says how."""


class ProcessLost(Exception):
    """The process ended before it came to this request, which was not to blame."""


class WorkerProcess:
    """A running process, from :meth:`start`. It works on one request after the other, in the order they were asked in.

    A busy loop passes it many requests at once. The clock of a request runs from when the one before it was answered.
    Whatever keeps the process from answering one ends the process.
    """

    def __init__(self, process: Process, step_limit: float) -> None:
        """Take over a process whose input and output are pipes."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input, self._output = process.stdin, process.stdout
        self._step_limit = step_limit
        self._loop = asyncio.get_running_loop()
        self._asked: deque[tuple[asyncio.Future[dict[str, Any]], float]] = deque()
        """Requests that are not answered, each with its limit; the process works on the first."""
        self._unsent: list[str] = []
        """Those of this turn of the loop, which are written together."""
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._ended = False
        self._reading = asyncio.create_task(self._read())

    @classmethod
    async def start(cls, build: Mapping[str, Any], step_limit: float) -> Self:
        """Start a process and have it build the environment.

        Args:
            build: its first request.
            step_limit: seconds that it may take for any later one.

        Raises:
            EnvironmentConfigurationError: the environment can't be built as configured.
            EnvironmentFailure: it can't be built for another reason.
        """
        command = (sys.executable, "-m", "distillery.environments.worker")
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_LONGEST_ANSWER)
        made = cls(process, step_limit)
        try:
            await made.ask(build, limit=_START_LIMIT)
        except BaseException:
            made._lose()
            await made.stop()
            raise
        return made

    @property
    def alive(self) -> bool:
        """Whether it can be asked."""
        return not self._ended and self._process.returncode is None

    async def ask(self, request: Mapping[str, Any], *, limit: float | None = None) -> dict[str, Any]:
        """The worker's answer to a request. A caller that is cancelled ends the process.

        Raises:
            EnvironmentFailure: the environment raised, the process died, hung, or answered with garbage.
            EnvironmentConfigurationError: the environment raised it.
            ProcessLost: the process ended for another request's sake, or had ended before.
        """
        if self._ended:
            raise ProcessLost
        answered = self._loop.create_future()
        self._asked.append((answered, self._step_limit if limit is None else limit))
        if len(self._asked) == 1:
            self._set_clock()
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(json.dumps(request))
        try:
            answer = await answered
        except asyncio.CancelledError:
            self._lose()  # it may hang, and would answer a question that nobody asks any more
            raise
        if "error" in answer:
            kind = EnvironmentConfigurationError if answer["configuration"] else EnvironmentFailure
            raise kind(answer["error"])
        return answer

    async def stop(self) -> None:
        """End the process by ending its input, or else by force."""
        self._input.close()
        await asyncio.wait([self._reading], timeout=_STOP_LIMIT)
        self._lose()
        await self._wait()
        self._reading.cancel()  # where a child of the process still holds its output

    def _send(self) -> None:
        lines = "".join(f"{request}\n" for request in self._unsent)
        self._unsent.clear()
        with contextlib.suppress(ConnectionError, RuntimeError):  # a closed pipe, which the reader learns of too
            self._input.write(lines.encode())

    async def _read(self) -> None:
        """Give each request its answer, until the process has ended."""
        try:
            while (line := await self._output.readline()).endswith(b"\n"):
                answer: Any = json.loads(line)
                if not isinstance(answer, dict) or not self._asked:
                    raise ValueError("not an answer")
                answered, _ = self._asked.popleft()
                if self._asked:
                    self._set_clock()
                if not answered.done():
                    answered.set_result(answer)
            self._ended = True
            reason = f"the worker process died: {await self._cause()}"
        except ValueError as error:  # of the JSON, or of a line that is too long
            reason = f"the worker process answered with garbage: {error}"
        self._lose(reason)
        await self._wait()

    def _set_clock(self) -> None:
        """The first of the requests that were asked is worked on from now on."""
        self._due = self._loop.time() + self._asked[0][1]
        if self._timer is None or self._timer.when() > self._due:
            self._look_when_due()

    def _look_when_due(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._look)

    def _look(self) -> None:
        """End the process if it is late."""
        self._timer = None
        if self._asked and self._loop.time() < self._due:  # others were answered since the timer was set
            self._look_when_due()
        elif self._asked:
            self._lose(f"no answer within {self._asked[0][1]:g} s; the worker process was ended")

    def _lose(self, reason: str = "") -> None:
        """End the process, and tell everyone who waits for it; the first, if there is a reason, that it is to blame."""
        self._ended = True
        if self._timer:
            self._timer.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        while self._asked:
            answered, _ = self._asked.popleft()
            if not answered.done():
                answered.set_exception(EnvironmentFailure(reason) if reason else ProcessLost())
            reason = ""

    async def _cause(self) -> str:
        """Why the process died whose output ended."""
        code = await self._wait()
        if code is None:
            return "it closed its output"
        if code >= 0:
            return f"exit code {code}"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"

    async def _wait(self) -> int | None:
        """The exit code; None if the process doesn't end."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), _STOP_LIMIT)
        return None
