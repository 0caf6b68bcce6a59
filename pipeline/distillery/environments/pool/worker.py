"""A process that plays: the other end of :mod:`distillery.environments.pool.pool`.

Requests come on standard input and answers go to standard output, one JSON document a line. Each request has a number
under ``request``, and so has its answer. What the environment itself prints, from Python or from C, goes to standard
error instead.

    {"environment": name, "options": ..., "folder": ...}    first; answered by {"concurrent": ...} once it is loaded
    {"open": N, "task": {...}}                              open session N and reset it
    {"step": N, "action": "..."}
    {"close": N}

An answer is ``{"observation": [...]}``, ``{}``, or ``{"error": message, "kind": KIND}``, where KIND is
``configuration``, ``away`` (a server) or ``failure``; the session of a request that failed is closed. Requests are
carried out one after another, or, where the environment is ``concurrent``, those of each session are: then a ``close``
also ends what its session is doing. The process ends when its input does, or when its parent is killed.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import threading
from pathlib import Path
from queue import SimpleQueue
from typing import IO, Any

from distillery.core import plugins
from distillery.environments.base import Environment, EnvironmentAway, EnvironmentConfigurationError, Session, Task
from distillery.environments.pool import wire

_CONFIGURATION = (EnvironmentConfigurationError, plugins.UnknownPlugin)
_PR_SET_PDEATHSIG = 1  # prctl(2)

Answer = dict[str, Any]


def main() -> None:
    """Serve requests until the input ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the whole group; the pool ends its workers itself
    _end_with_parent()
    requests, pipe = claim_pipes()
    answers = _Answers(pipe)
    desk: _Desk | None = None
    for line in requests:
        request = json.loads(line)
        number = request.pop("request")
        if desk is not None:
            desk.serve(number, request)
            continue
        try:
            environment = _build(**request)
            desk = _Desk(environment, answers)
            answer: Answer = {"concurrent": desk.concurrent}
        except (Exception, SystemExit) as error:
            answer = _problem(error, opening=True)
        answers.send(number, answer)


class _Answers:
    """The pipe to the pool, which one thread at a time writes to."""

    def __init__(self, pipe: IO[str]) -> None:
        self._pipe = pipe
        self._lock = threading.Lock()

    def send(self, number: int, answer: Answer) -> None:
        line = json.dumps({"request": number, **answer})
        with self._lock:
            self._pipe.write(line + "\n")
            self._pipe.flush()


class _Desk:
    """Where requests are handed to their sessions."""

    def __init__(self, environment: Environment, answers: _Answers) -> None:
        self.concurrent = bool(getattr(environment, "concurrent", False))
        self._environment = environment
        self._answers = answers
        self._seats: dict[int, _Seat] = {}

    def serve(self, number: int, request: dict[str, Any]) -> None:
        """Carry out a request and answer it, here or in the thread of its session."""
        of = next((request[key] for key in ("open", "step", "close") if key in request), -1)
        closing = "close" in request
        seat = self._seats.pop(of, None) if closing else self._seats.get(of)
        known = seat is not None or "open" in request
        if seat is None:
            seat = _Seat(self._environment)
            if "open" in request:
                self._seats[of] = seat
        work = (self, of, seat, number, request)
        if not self.concurrent or not known:
            _carry_out(*work)
        elif closing:
            seat.queue.put(None)
            threading.Thread(target=_carry_out, args=work, daemon=True).start()
        else:
            if seat.thread is None:
                seat.thread = threading.Thread(target=_work_off, args=(seat.queue,), daemon=True)
                seat.thread.start()
            seat.queue.put(work)

    def answer(self, of: int, number: int, answer: Answer) -> None:
        """Send an answer; a session whose request failed is gone."""
        if "error" in answer and (seat := self._seats.pop(of, None)):
            seat.queue.put(None)
        self._answers.send(number, answer)


class _Seat:
    """The place of one session."""

    def __init__(self, environment: Environment) -> None:
        self.queue: SimpleQueue[Any] = SimpleQueue()
        self.thread: threading.Thread | None = None
        self._environment = environment
        self._session: Session | None = None
        self._left = False
        self._lock = threading.Lock()

    def serve(self, request: dict[str, Any]) -> Answer:
        """Carry out a request of the session."""
        try:
            match request:
                case {"step": _, "action": action}:
                    if self._session is None:
                        raise ValueError("the session is not open")
                    return {"observation": wire.encode(self._session.step(action))}
                case {"open": _, "task": task}:
                    return {"observation": wire.encode(self._opened(Task(**task)).reset())}
                case {"close": _}:
                    self._leave()
                    return {}
                case _:
                    raise ValueError(f"not a request: {request}")
        except (Exception, SystemExit) as error:
            answer = _problem(error, opening="open" in request)
            try:
                self._leave()
            except (Exception, SystemExit) as again:
                print(f"a session that had failed couldn't be closed: {describe(again)}", file=sys.stderr)
            return answer

    def _opened(self, task: Task) -> Session:
        session = self._environment.open(task)
        with self._lock:
            if not self._left:
                self._session = session
                return session
        session.close()
        raise ValueError("the session was closed while it was opened")

    def _leave(self) -> None:
        with self._lock:
            self._left = True
            session, self._session = self._session, None
        if session is not None:
            session.close()


def _carry_out(desk: _Desk, of: int, seat: _Seat, number: int, request: dict[str, Any]) -> None:
    desk.answer(of, number, seat.serve(request))


def _work_off(queue: SimpleQueue[Any]) -> None:
    """Carry out the requests of one session, in their order."""
    while work := queue.get():
        _carry_out(*work)


def _build(environment: str, options: dict[str, Any], folder: str) -> Environment:
    made: Environment = plugins.load("environments", environment)(options, Path(folder))
    made.load()
    return made


def _problem(error: BaseException, *, opening: bool) -> Answer:
    kind = "away" if isinstance(error, EnvironmentAway) else "failure"
    if isinstance(error, _CONFIGURATION) and opening:  # in the middle of an episode there is nothing to configure
        kind = "configuration"
    return {"error": wire.storable(describe(error)), "kind": kind}


def describe(error: BaseException) -> str:
    """Describe an error to the person who configured the environment: its message, with its type if necessary."""
    return str(error) if isinstance(error, (*_CONFIGURATION, EnvironmentAway)) else f"{type(error).__name__}: {error}"


def claim_pipes() -> tuple[IO[str], IO[str]]:
    """Keep the pipes for the protocol: readers of standard input get nothing, and prints go to stderr."""
    requests = os.fdopen(os.dup(0), encoding="utf-8")
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.close(nothing)
    os.dup2(2, 1)
    return requests, answers


def _end_with_parent() -> None:
    """On Linux, die with the parent even in the middle of a request; elsewhere the end of the input has to do."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


if __name__ == "__main__":
    main()
