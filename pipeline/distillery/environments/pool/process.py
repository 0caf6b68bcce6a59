"""One worker process as the pool sees it: it is started, asked and ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

from distillery.environments.base import EnvironmentAway, EnvironmentConfigurationError

_START_SECONDS = 120.0  # seconds until a new process has imported and built the environment
_STOP_SECONDS = 5.0  # seconds for a process to end by itself when its input does
_MAX_ANSWER_BYTES = 16 * 1024 * 1024


class EnvironmentFailure(Exception):
    """The environment failed one session, which is lost; the message says how."""


class ProcessLost(Exception):
    """The process ended before it came to this request, which was not to blame."""


_KINDS: Mapping[str, type[Exception]] = {
    "configuration": EnvironmentConfigurationError,
    "away": EnvironmentAway,
    "failure": EnvironmentFailure,
}


@dataclass
class _PendingRequest:
    """A request without an answer so far.

    Attributes:
        answered: set with the answer.
        limit: seconds for it.
        session: the number of the session that is to be closed if it is given up.
        timer: gives it up, where the process is concurrent.
    """

    answered: asyncio.Future[dict[str, Any]]
    limit: float
    session: int | None
    timer: asyncio.TimerHandle | None = None

    def finish(self, answer: dict[str, Any]) -> None:
        """Pass the answer on."""
        self._stop_clock()
        if not self.answered.done():
            self.answered.set_result(answer)

    def fail(self, error: Exception) -> None:
        """Pass an error on in its place."""
        self._stop_clock()
        if not self.answered.done():
            self.answered.set_exception(error)

    def _stop_clock(self) -> None:
        if self.timer:
            self.timer.cancel()


class WorkerProcess:
    """A running process, from :meth:`start`. It works on one request after the other, in their order.

    A busy loop passes it many requests at once. The clock of a request runs from when the one before it was answered.
    Whatever keeps the process from answering one ends the process.

    With an environment that is ``concurrent`` it works on all of them at once: each has its own clock, and one that is
    late or cancelled costs its session, which is closed, and not the process.
    """

    def __init__(self, process: Process, step_limit: float) -> None:
        """Take over a process whose input and output are pipes."""
        assert process.stdin is not None
        assert process.stdout is not None
        self._process = process
        self._input, self._output = process.stdin, process.stdout
        self._step_limit = step_limit
        self._loop = asyncio.get_running_loop()
        self._concurrent = False
        self._numbers = itertools.count()
        self._pending: dict[int, _PendingRequest] = {}
        """Requests without an answer, by number; unless it is concurrent, the process works on the first."""
        self._unsent: list[str] = []
        """Requests of this turn of the loop, which are written together."""
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
        command = (sys.executable, "-m", "distillery.environments.pool.worker")
        process = await asyncio.create_subprocess_exec(*command, stdin=PIPE, stdout=PIPE, limit=_MAX_ANSWER_BYTES)
        worker = cls(process, step_limit)
        try:
            answer = await worker.ask(build, limit=_START_SECONDS)
            worker._concurrent = answer["concurrent"]
        except BaseException:
            worker._end()
            await worker.stop()
            raise
        return worker

    @property
    def alive(self) -> bool:
        """True if the process can take a request."""
        return not self._ended and self._process.returncode is None

    async def ask(self, request: Mapping[str, Any], *, limit: float | None = None) -> dict[str, Any]:
        """Return the worker's answer to a request. A caller that is cancelled ends the process, or the session.

        Raises:
            EnvironmentFailure: the environment raised, the process died, hung, or answered with garbage.
            EnvironmentConfigurationError: the environment raised it.
            EnvironmentAway: the environment raised it.
            ProcessLost: the process ended for another request's sake, or had ended before.
        """
        if self._ended:
            raise ProcessLost
        number = self._queue(request)
        pending = _PendingRequest(
            self._loop.create_future(),
            self._step_limit if limit is None else limit,
            request.get("open", request.get("step")),
        )
        self._pending[number] = pending
        if self._concurrent:
            pending.timer = self._loop.call_later(pending.limit, self._give_up, number)
        elif len(self._pending) == 1:
            self._set_clock()
        try:
            answer = await pending.answered
        except asyncio.CancelledError:
            if self._concurrent:
                self._give_up(number)
            else:
                self._end()  # it may hang, and would answer a question that nobody asks any more
            raise
        if "error" in answer:
            raise _KINDS[answer["kind"]](answer["error"])
        return answer

    async def stop(self) -> None:
        """End the process by ending its input, or else by force."""
        self._input.close()
        await asyncio.wait([self._reading], timeout=_STOP_SECONDS)
        self._end()
        await self._wait()
        self._reading.cancel()  # where a child of the process still holds its output

    def _queue(self, request: Mapping[str, Any]) -> int:
        """Write a request at the end of this turn of the loop, and return its number."""
        number = next(self._numbers)
        if not self._unsent:
            self._loop.call_soon(self._send)
        self._unsent.append(json.dumps({"request": number, **request}))
        return number

    def _give_up(self, number: int) -> None:
        """Wait no longer for an answer of a concurrent process, and close the session of the request."""
        pending = self._pending.pop(number, None)
        if pending is None or self._ended:
            return
        pending.fail(EnvironmentFailure(f"no answer within {pending.limit:g} s"))
        if pending.session is not None:
            self._queue({"close": pending.session})

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
                if not isinstance(answer, dict) or not isinstance(answer.get("request"), int):
                    raise ValueError("not an answer")
                if not self._concurrent and answer["request"] != next(iter(self._pending), None):
                    raise ValueError("not an answer to what was asked")
                pending = self._pending.pop(answer["request"], None)
                if not self._concurrent and self._pending:
                    self._set_clock()
                if pending is not None:  # else nobody waits for it any more
                    pending.finish(answer)
            self._ended = True
            reason = f"the worker process died: {await self._find_cause()}"
        except ValueError as error:  # of the JSON, or of a line that is too long
            reason = f"the worker process answered with garbage: {error}"
        self._end(reason)
        await self._wait()

    def _set_clock(self) -> None:
        """Start the clock of the first pending request, which the process works on from now on."""
        self._due = self._loop.time() + self._first.limit
        if self._timer is None or self._timer.when() > self._due:
            self._schedule_check()

    def _schedule_check(self) -> None:
        if self._timer:
            self._timer.cancel()
        self._timer = self._loop.call_at(self._due, self._check_due)

    def _check_due(self) -> None:
        """End the process if it is late with an answer."""
        self._timer = None
        if self._pending and self._loop.time() < self._due:  # others were answered since the timer was set
            self._schedule_check()
        elif self._pending:
            self._end(f"no answer within {self._first.limit:g} s; the worker process was ended")

    @property
    def _first(self) -> _PendingRequest:
        return next(iter(self._pending.values()))

    def _end(self, reason: str = "") -> None:
        """End the process and fail its pending requests, those that it worked on for the given reason."""
        self._ended = True
        if self._timer:
            self._timer.cancel()
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        pending = list(self._pending.values())
        self._pending.clear()
        blamed = 0 if not reason else len(pending) if self._concurrent else 1
        for position, request in enumerate(pending):
            request.fail(EnvironmentFailure(reason) if position < blamed else ProcessLost())

    async def _find_cause(self) -> str:
        """Return why the process died whose output ended."""
        code = await self._wait()
        if code is None:
            return "it closed its output"
        if code >= 0:
            return f"exit code {code}"
        hint = " (out of memory?)" if -code == signal.SIGKILL else ""
        return f"killed by {signal.Signals(-code).name}{hint}"

    async def _wait(self) -> int | None:
        """Return the exit code; None if the process doesn't end."""
        with contextlib.suppress(TimeoutError):
            return await asyncio.wait_for(self._process.wait(), _STOP_SECONDS)
        return None
